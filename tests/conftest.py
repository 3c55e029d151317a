"""One thread per test process: small tensors gain nothing from two threads, and busy cores make them slow.

``ITSCALE_TEST_SHAPES=1`` checks the shapes of every call as well; runs of tiny tensors take twice as long.
"""

import os

import torch

from itscale.runs.allocator import keep_freed_memory
from tests import shapes

if os.environ.get("ITSCALE_TEST_SHAPES"):
    shapes.install()
torch.set_num_threads(1)
keep_freed_memory()
