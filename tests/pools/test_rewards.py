"""Rewards in workers of their own: the same scores, whatever dies, and one bad sample costs itself alone."""

from __future__ import annotations

import os
import signal
import time
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

import itscale
from itscale.errors import ConfigError, PoolError, RewardError
from itscale.pools import Local, pooled
from itscale.scoring import as_reward
from tests.engine.setting import METHODS, Network, total, wrapped

pytestmark = pytest.mark.ray
SAMPLES = torch.arange(24.0).reshape(8, 3)


@pytest.fixture
def made(own_ray):
    rewards = []

    def make(reward, **berth):
        rewards.append(pooled(reward, **{"cpus": 0, "workers": 2, "batch_size": 2, **berth}))
        return rewards[-1]

    yield make
    for reward in rewards:
        leaf = reward.leaf
        (leaf if hasattr(leaf, "close") else leaf.inner.leaf).close()


def poisonous(latents):
    """Seven kills whoever scores it."""
    if (latents[:, 0] == 6).any():
        os.kill(os.getpid(), signal.SIGKILL)
    return latents.sum(1)


def sleepy(latents):
    if (latents[:, 0] == 6).any():
        time.sleep(600)
    return latents.sum(1)


def with_facts(latents, conditions):
    return latents[:, 0] + torch.tensor([float(c) for c in conditions])


def test_scores_come_in_order_with_facts_and_parts(made):
    remote = made(as_reward(with_facts) + 2 * as_reward(total))
    conditions = [float(i) for i in range(8)]
    mine = remote.score(SAMPLES, {"conditions": conditions})
    theirs = (as_reward(with_facts) + 2 * as_reward(total)).score(SAMPLES, {"conditions": conditions})
    assert torch.equal(mine.values, theirs.values)
    assert mine.calls == theirs.calls
    assert set(theirs.parts) <= {name.partition(".")[2] or name for name in mine.parts} | set(mine.parts)
    assert not remote.gradient_ready


def test_a_poisonous_sample_is_found_and_the_others_are_scored(made):
    remote = made(poisonous, batch_size=4)
    scores = remote.score(SAMPLES)
    assert scores.valid.tolist() == [True, True, False, *[True] * 5]
    assert "its worker was lost 3 times" in scores.reasons[2]
    assert torch.equal(scores.values[3:], SAMPLES[3:].sum(1))


def test_a_worker_that_hangs_is_given_up(made):
    scores = made(sleepy, timeout=3.0, attempts=1, batch_size=1).score(SAMPLES[:4])
    assert scores.valid.tolist() == [True, True, False, True]
    assert "no answer within 3 s" in scores.reasons[2]


def test_a_killed_worker_is_not_noticed(made):
    remote = made(total)
    first = remote.score(SAMPLES).values
    import ray

    for actor in remote.leaf._actors:
        ray.kill(actor, no_restart=False)
    assert torch.equal(remote.score(SAMPLES).values, first)


def test_a_run_with_particles_and_reward_in_other_processes(made, pool):
    settings = {"method": METHODS["smc"], "steps": 4, "condition": 0.0, "seed": 1}
    remote = made(total, workers=1)
    here = itscale.sample(
        wrapped(Network()), reward=total, pool=Local(microbatch=8, bitwise=True), **settings
    )
    for where in (Local(microbatch=8, bitwise=True), pool(2)):
        there = itscale.sample(wrapped(Network()), reward=remote, pool=where, **settings)
        assert torch.equal(there.samples, here.samples)
        assert torch.equal(there.rewards, here.rewards)
        assert there.spent.reward_calls == here.spent.reward_calls


def test_equal_samples_are_scored_once_with_a_cache(made):
    remote = made(total, cache=100, workers=1)
    assert remote.score(SAMPLES).calls == 8
    again = remote.score(torch.cat([SAMPLES, SAMPLES + 1]))
    assert again.calls == 8


def environment(folder, *packages):
    """The interpreter of a new environment with these packages of the present one, and no others."""
    venv.create(folder, symlinks=True)
    place = next(folder.glob("lib/*/site-packages"))
    for name in packages:
        (place / name).symlink_to(Path(np.__file__).parents[1] / name)
    return str(folder / "bin" / "python")


ELSEWHERE = """
import importlib.util

def brightness(samples):
    assert not any(importlib.util.find_spec(name) for name in ("torch", "ray"))
    return samples.mean((1, 2, 3))
"""


def test_another_environment_is_a_reward_by_its_interpreter(made, tmp_path):
    """It needs numpy alone, of any version, and no Ray."""
    file = tmp_path / "elsewhere.py"
    file.write_text(ELSEWHERE)
    images = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    python = environment(tmp_path / "venv", "numpy", "numpy.libs")
    remote = made({"name": "isolated", "python": python, "target": f"{file}:brightness"})
    torch.testing.assert_close(remote.score(images).values, images.mean((1, 2, 3)), rtol=1e-6, atol=1e-6)


def test_an_environment_that_cannot_score_is_an_error_before_anything_runs(tmp_path):
    file = tmp_path / "elsewhere.py"
    file.write_text(ELSEWHERE)
    bare = environment(tmp_path / "venv")
    with pytest.raises(RewardError, match="No module named 'numpy'"):
        pooled({"name": "isolated", "python": bare, "target": f"{file}:brightness"})
    with pytest.raises(ConfigError, match="is no program"):
        pooled({"name": "isolated", "python": str(tmp_path / "none"), "target": f"{file}:brightness"})


def test_no_room_and_no_gradient_are_errors(made):
    with pytest.raises(PoolError, match=r"no room for 1 workers of reward 'total' with 64 CPU"):
        made(total, cpus=64, workers=1, start_timeout=2.0).score(SAMPLES)
    with pytest.raises(ConfigError, match="no gradient"):
        made(total).raw(SAMPLES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers must be a whole number >= 1"),
        ({"timeout": 0}, "timeout must be seconds > 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        pooled(total, **settings)


def test_a_configuration_names_it_and_its_cells_share_the_workers(own_ray, tmp_path):
    from itscale.pools import reward_actors
    from itscale.runs import run

    judged = {"name": "pooled", "reward": f"{__name__}:total", "workers": 1, "cpus": 0}
    config = {
        "model": "gaussian-mixture",
        "method": {"name": "smc", "particles": 4},
        "run": {"steps": 3},
        "sweep": {"run.seed": [0, 1]},
    }
    there = run({**config, "reward": judged}, out=tmp_path / "there")
    here = run({**config, "reward": f"{__name__}:total"}, out=tmp_path / "here")
    assert [row["reward"] for row in there.rows] == [row["reward"] for row in here.rows]
    (made,) = [r for key, r in reward_actors._by_settings.items() if __name__ in key]
    assert len(made.leaf._actors) == 1
    made.leaf.close()


def test_an_argument_that_is_none_is_named(own_ray):
    with pytest.raises(ConfigError, match=r"argument of reward 'pooled': 'worker'.*workers"):
        as_reward({"name": "pooled", "reward": "ink", "worker": 2})
