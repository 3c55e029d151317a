"""Runs that are interrupted, killed or failing go on; files of other runs are refused."""

from __future__ import annotations

import shutil

import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.methods import CTS, SMC
from tests.solvers.drive import gaussian


@itscale.reward(name="first", modality="vector", differentiable=True)
def first(vectors):
    return vectors[:, 0]


def run(**settings):
    settings = {"method": SMC(particles=8), "steps": 6, "groups": 2, "tilt": 2.0, "seed": 5, **settings}
    return itscale.sample(gaussian(0.3, 0.8), reward=first, **settings)


class Unplugged(Exception):
    pass


def unplug_at(level):
    def on_step(step):
        if step.level == level:
            raise Unplugged

    return on_step


def test_a_killed_run_goes_on_from_what_was_last_written(tmp_path):
    """As kill -9 leaves it: the file of some step, and nothing said afterwards."""
    file, kept = tmp_path / "run.pt", tmp_path / "kept.pt"

    def keep(step):
        if step.level == 4:
            shutil.copy(file, kept)

    whole = run(checkpoint=file, checkpoint_every=0.0, on_step=keep)
    assert not file.exists()
    again = run(checkpoint=kept)
    assert torch.equal(again.samples, whole.samples)
    assert torch.equal(again.log_weights, whole.log_weights)
    assert again.spent.nfe == whole.spent.nfe
    assert again.spent.seconds > 0


def test_pilots_are_not_run_again(tmp_path):
    settings = {"method": CTS(particles=8), "tilt": "auto"}
    whole = run(**settings)
    with pytest.raises(Unplugged):
        run(**settings, checkpoint=tmp_path / "run.pt", on_step=unplug_at(3))
    calls = []
    resumed = run(**settings, checkpoint=tmp_path / "run.pt", on_step=calls.append)
    assert [step.level for step in calls] == [4, 5, 6]
    assert torch.equal(resumed.samples, whole.samples)
    assert resumed.tilt == whole.tilt
    assert resumed.pilot.nfe == whole.pilot.nfe


def test_a_failing_reward_leaves_the_steps_before_it(tmp_path):
    state = {"broken": True, "calls": 0}

    def sometimes(vectors):
        state["calls"] += 1
        if state["broken"] and state["calls"] > 4:
            raise OSError("the scorer is gone")
        return vectors[:, 0]

    reward = itscale.reward(name="sometimes", modality="vector")(sometimes)
    settings = {"reward": reward, "method": SMC(particles=8), "steps": 6, "checkpoint": tmp_path / "run.pt"}
    with pytest.raises(itscale.errors.RewardError, match="the scorer is gone"):
        itscale.sample(gaussian(0.3, 0.8), **settings)
    state["broken"] = False
    resumed = itscale.sample(gaussian(0.3, 0.8), **settings)
    del settings["checkpoint"]
    assert torch.equal(resumed.samples, itscale.sample(gaussian(0.3, 0.8), **settings).samples)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 6}, r"is of another run: seed was 5 and is 6 now"),
        ({"method": SMC(particles=9)}, r"is of another run: method was .*8.* and is .*9"),
        ({"tilt": 3.0}, r"tilt was 2.0 and is 3.0"),
        ({"groups": 3}, r"groups was \[0, 1\] and is \[0, 1, 2\]"),
    ],
)
def test_a_file_of_another_run_is_refused_and_left_alone(other, message, tmp_path):
    file = tmp_path / "run.pt"
    with pytest.raises(Unplugged):
        run(checkpoint=file, on_step=unplug_at(3))
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=message):
        run(checkpoint=file, **other)
    assert file.read_bytes() == before


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    file = tmp_path / "run.pt"
    file.write_text("notes")
    with pytest.raises(ConfigError, match=r"cannot be read.*delete it, or name another file"):
        run(checkpoint=file)
    torch.save({"version": 99, "request": {}}, file)
    with pytest.raises(ConfigError, match="has version 99"):
        run(checkpoint=file)
    with pytest.raises(ConfigError, match="checkpoint_every must be >= 0"):
        run(checkpoint=tmp_path / "new.pt", checkpoint_every=-1.0)


def test_a_callback_may_end_a_run_where_it_is():
    result = run(on_step=lambda step: step.level < 3)
    assert result.truncated
    assert result.claim == {"target": None, "evidence": None}
    assert any("ended early" in warning for warning in result.warnings)
    assert result.samples.isfinite().all()
    assert result.spent.nfe == [8 * 4] * 2  # looks at levels 0 to 3, and no more
    assert not run(on_step=lambda step: None).truncated
