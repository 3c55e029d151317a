"""One thread per test process: small tensors gain nothing from two threads, and busy cores make them slow.

``ITSCALE_TEST_SHAPES=1`` checks the shapes of every call as well; runs of tiny tensors take twice as long.

Tests compare bits and compute exact answers beside a run, so they see no GPU, on whatever machine.
``ITSCALE_TEST_GPU=1 pytest -m gpu`` runs those that need one; they are left out otherwise.
"""

import os

import pytest
import torch

from itscale.allocator import keep_freed_memory
from tests import shapes

WANTS_GPU = bool(os.environ.get("ITSCALE_TEST_GPU"))
if not WANTS_GPU:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch looks when it is first asked

if os.environ.get("ITSCALE_TEST_SHAPES"):
    shapes.install()
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
keep_freed_memory()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU, unless it is asked for; what needs Ray comes first, by its shards."""
    out = [item for item in items if item.get_closest_marker("gpu") is not None and not WANTS_GPU]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
    items.sort(key=lambda item: (item.get_closest_marker("ray") is None, -shards_of(item)))


def shards_of(item: pytest.Item) -> int:
    """How many shards a test starts, as far as it says; 0 where it says nothing."""
    marker = item.get_closest_marker("shards")
    if marker is not None:
        return marker.args[0]
    return item.callspec.params.get("shards", 0) if hasattr(item, "callspec") else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """With ``-n``: a file's tests in one process, so that what they share is made once."""
    if config.option.dist != "load":
        return None
    from tests.sharing import ByFile

    config.option.loadscopereorder = False
    return ByFile(config, log)
