"""A reward in another environment: what reaches it, what comes back, and everything it may do wrong."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from itscale.errors import ConfigError, RewardError
from itscale.remote import child
from itscale.scoring import as_reward, check_reward
from itscale.vision.image_text import resident
from tests import remote_rewards
from tests.tiny_scorers import images

FILE = remote_rewards.__file__


def isolated(what: str, **options):
    return as_reward({"name": "isolated", "python": sys.executable, "target": f"{FILE}:{what}", **options})


@pytest.fixture(autouse=True)
def _fresh_children():
    """No child of one test answers another."""
    yield
    resident.cache_clear()


def test_images_arrive_and_scores_come_back():
    reward = isolated("Red", args={"scale": 2.0})
    batch = images()
    torch.testing.assert_close(reward.score(batch).values, 2 * batch[:, 0].mean((1, 2)))
    assert [r.name for r in check_reward(reward) if not r.passed] == []
    assert not reward.gradient_ready
    grey = batch[:, :1]
    torch.testing.assert_close(reward.score(grey).values, 2 * grey[:, 0].mean((1, 2)))


def test_texts_and_the_facts_that_are_asked_for_arrive():
    reward = isolated("lengths", modality="text")
    facts = {"prompts": ["one", "three"], "meta": [{"note": "x"}, {"note": "yz"}], "t": 0.5}
    assert reward.score(["a", "bcd"], facts).values.tolist() == [131, 352]
    assert reward.score(["a", "bcd"], {"conditions": ["x", "y"]}).values.tolist() == [110, 310]
    everything = isolated("everything")
    assert everything.score(images(2), {"prompts": "a", "t": torch.tensor(0.5)}).values.tolist() == [2, 2]


def test_parts_flags_and_reasons_come_back():
    batch = torch.tensor([0.2, 0.8]).reshape(2, 1, 1, 1).expand(2, 3, 4, 4)
    scores = isolated("with_parts").score(batch)
    assert scores.valid.tolist() == [False, True]
    assert scores.values[0] == -torch.inf
    torch.testing.assert_close(scores.parts["twice"], torch.tensor([0.4, 1.6]))
    assert scores.first_reason == "too dark"


@pytest.mark.parametrize(("what", "form"), [("on_pictures", "pil"), ("on_torch", "torch")])
def test_images_arrive_in_the_form_that_was_asked_for(what, form):
    batch = (images() * 255).round() / 255
    torch.testing.assert_close(isolated(what, form=form).score(batch).values, batch.mean((1, 2, 3)))


def test_module_is_found_by_name(tmp_path, monkeypatch):
    (tmp_path / "scorers_of_mine.py").write_text("def one(images):\n    return [1.0] * len(images)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    reward = as_reward({"name": "isolated", "python": sys.executable, "target": "scorers_of_mine:one"})
    assert reward.score(images(2)).values.tolist() == [1, 1]


def test_child_needs_numpy_alone(tmp_path):
    """An environment with numpy and nothing of itscale or torch."""
    site = tmp_path / "site"
    site.mkdir()
    for name in ("numpy", "numpy.libs"):
        source = Path(np.__file__).parents[1] / name
        if source.exists():
            (site / name).symlink_to(source)
    launcher = tmp_path / "python"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} -S "$@"\n')
    launcher.chmod(0o755)
    reward = as_reward({"name": "isolated", "python": str(launcher), "target": f"{FILE}:Red"})
    batch = images()
    torch.testing.assert_close(reward.score(batch).values, batch[:, 0].mean((1, 2)))
    assert "torch" not in reward.leaf.function._child().versions


def test_exception_makes_the_sample_invalid_and_the_child_goes_on():
    reward = isolated("raises_on_dark")
    batch = torch.tensor([0.5, 0.1, 0.9]).reshape(3, 1, 1, 1).expand(3, 3, 4, 4)
    scores = reward.score(batch)
    assert scores.valid.tolist() == [True, False, True]
    assert "ValueError: a dark image" in scores.first_reason
    with pytest.raises(RewardError, match=r"failed for all 2 samples.*a dark image \(in "):
        reward.score(batch[[1, 1]])


def test_child_that_crashes_once_is_started_again(tmp_path):
    reward = isolated("Crashing", args={"file": str(tmp_path / "count"), "times": 1})
    batch = images()
    torch.testing.assert_close(reward.score(batch).values, batch[:, 0].mean((1, 2)))


def test_child_that_crashes_again_is_an_error_with_its_last_words(tmp_path):
    reward = isolated("Crashing", args={"file": str(tmp_path / "count"), "times": 2})
    with pytest.raises(RewardError, match=r"died twice: exit code 7. Its last words: .*about to fall"):
        reward.score(images())
    assert reward.score(images()).valid.all()  # the next call starts a new one


def test_child_that_hangs_is_ended():
    reward = isolated("Hanging", args={"per_call": 60.0}, call_timeout=0.3, sample_timeout=0.1)
    running = reward.leaf.function._child()._process
    with pytest.raises(RewardError, match=r"did not answer within 0\.7 s and was ended; raise call_timeout"):
        reward.score(images())
    assert running.poll() is not None


def test_child_that_starts_too_slowly_is_ended():
    with pytest.raises(RewardError, match=r"did not answer within 0\.2 s .*raise start_timeout"):
        isolated("Hanging", args={"at_start": 60.0}, start_timeout=0.2)


def test_what_cannot_be_loaded_is_an_error_at_once(tmp_path):
    with pytest.raises(RewardError, match="could not be loaded: RuntimeError: no weights here"):
        isolated("Broken")
    with pytest.raises(RewardError, match=r"could not be loaded: AttributeError.*'nothing'"):
        isolated("nothing")
    with pytest.raises(RewardError, match=r"could not be loaded: ModuleNotFoundError.*no_such_module"):
        as_reward({"name": "isolated", "python": sys.executable, "target": "no_such_module:x"})
    (tmp_path / "python").write_text("#!/bin/sh\necho 'no numpy here' >&2\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(RewardError, match=r"could not start: exit code 3. Its last words: no numpy here"):
        as_reward({"name": "isolated", "python": str(tmp_path / "python"), "target": f"{FILE}:Red"})


@pytest.mark.parametrize(
    ("what", "said"), [("wrong_count", "answered 5 scores for 4 samples"), ("words", "ValueError")]
)
def test_nonsense_is_not_scored(what, said):
    with pytest.raises(RewardError, match=said):
        isolated(what).score(images())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"python": "/no/such/python"}, "'/no/such/python' is no program"),
        ({"target": "Red"}, "target='Red'; give module:attribute or path/file.py:attribute"),
        ({"target": "/no/file.py:Red"}, "there is no file '/no/file.py'"),
        ({"form": "tensor"}, "form is 'tensor'"),
        ({"modality": "picture"}, "modality is 'picture'"),
        ({"call_timeout": 0}, "call_timeout is 0; give seconds above 0"),
        ({"args": {"x": object()}}, "cannot be sent as JSON"),
    ],
)
def test_bad_setting_is_said_before_anything_starts(options, said):
    with pytest.raises(ConfigError, match=said):
        as_reward({"name": "isolated", "python": sys.executable, "target": f"{FILE}:Red", **options})


def test_reward_travels_and_starts_its_own_child():
    reward = isolated("Red")
    first = reward.leaf.function._child()
    copy = pickle.loads(pickle.dumps(reward))
    resident.cache_clear()
    assert torch.equal(copy.score(images()).values, reward.score(images()).values)
    assert copy.leaf.function._child() is not first


def test_fork_of_the_parent_gets_a_child_of_its_own():
    code = (
        "import os, sys\nimport torch\nfrom itscale.scoring import as_reward\n"
        f"r = as_reward({{'name': 'isolated', 'python': sys.executable, 'target': '{FILE}:Red'}})\n"
        "first = r.leaf.function._child()._process.pid\nbatch = torch.ones(2, 3, 4, 4)\n"
        "if os.fork() == 0:\n"
        "    assert r.score(batch).values.tolist() == [1, 1]\n"
        "    assert r.leaf.function._child()._process.pid != first\n"
        "    sys.exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "assert r.score(batch).values.tolist() == [1, 1]\n"
        "assert r.leaf.function._child()._process.pid == first\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_child_ends_with_its_parent(tmp_path):
    code = (
        "import os, sys\nfrom itscale.scoring import as_reward\n"
        f"r = as_reward({{'name': 'isolated', 'python': sys.executable, 'target': '{FILE}:Red'}})\n"
        "print(r.leaf.function._child()._process.pid, flush=True)\nos._exit(9)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


class TestWire:
    def there_and_back(self, message):
        stream = io.BytesIO()
        child.send(stream, message)
        stream.seek(0)
        return child.receive(stream)

    def test_arrays_anywhere_come_back_as_they_were(self):
        arrays = [
            np.arange(6, dtype="<i8").reshape(2, 3),
            np.float32([[1.5]]),
            np.zeros((0, 3)),
            np.bool_([1, 0]),
        ]
        back = self.there_and_back(
            {"a": arrays[0], "b": [arrays[1], {"c": arrays[2]}], "d": arrays[3], "e": None}
        )
        for sent, got in zip(arrays, (back["a"], back["b"][0], back["b"][1]["c"], back["d"]), strict=True):
            assert sent.dtype == got.dtype
            assert np.array_equal(sent, got)
        assert back["e"] is None

    def test_not_contiguous_arrays_are_sent(self):
        array = np.arange(12).reshape(3, 4).T
        assert np.array_equal(self.there_and_back({"a": array})["a"], array)

    def test_objects_are_neither_sent_nor_taken(self):
        with pytest.raises(ValueError, match="cannot be sent"):
            child.send(io.BytesIO(), {"a": np.array([object()])})
        header = b'{"message": {"__array__": 0}, "arrays": [{"dtype": "|O", "shape": [1]}]}'
        with pytest.raises(ValueError, match="are not taken"):
            child.receive(io.BytesIO(len(header).to_bytes(4, "big") + header + bytes(8)))

    def test_half_a_message_is_the_end(self):
        stream = io.BytesIO()
        child.send(stream, {"a": np.zeros(100)})
        for cut in (0, 2, 10, len(stream.getvalue()) - 1):
            with pytest.raises(EOFError):
                child.receive(io.BytesIO(stream.getvalue()[:cut]))

    def test_something_else_on_the_line_is_said(self):
        with pytest.raises(ValueError, match="is no message"):
            child.receive(io.BytesIO(b"Traceback (most recent call last):"))
