"""Particles of one run at different levels: scored, weighted and ended as each would be among its equals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from itscale.pools import Local
from itscale.potentials import Difference
from tests.engine.setting import Network, make_engine, wrapped

STEPS = 5
LEVELS = torch.tensor([[0, 3, 1, 5], [4, 0, 3, 2]])
CLOSE = {
    "rtol": 0,
    "atol": 1e-4,
}  # rewards up to 115 in float32, in batches of other sizes; facts move them by 1


def asking(latents, step, t, is_final, conditions):
    """A number that tells every fact of a row; one that is the same for all rows comes as one."""
    m = len(latents)
    step, t, is_final = (torch.as_tensor(fact).expand(m) for fact in (step, t, is_final))
    return latents.sum(1) + step + 10 * t + 20 * is_final + 40 * torch.tensor(conditions)


def start(microbatch):
    engine = make_engine(
        wrapped(Network()),
        asking,
        steps=STEPS,
        pool=Local(microbatch=microbatch),
        conditions=[1.0, 2.0],
    )
    return engine, engine.start(4)


def at(engine, p, level):
    return engine.look(replace(p, level=level))


def level_by_level(verb):
    """What ``verb(engine, p)`` gives each particle when all are at its level."""
    found = torch.empty(LEVELS.shape, dtype=torch.float64)
    for level in LEVELS.unique():
        engine, p = start(microbatch=64)
        here = verb(engine, at(engine, p, torch.full_like(LEVELS, int(level))))
        found = torch.where(level == LEVELS, here, found)
    return found


@pytest.mark.parametrize("microbatch", [1, 3, 8])
def test_every_row_is_scored_with_its_own_facts(microbatch):
    engine, p = start(microbatch)
    reward = engine.score(at(engine, p, LEVELS)).reward
    torch.testing.assert_close(reward, level_by_level(lambda engine, p: engine.score(p).reward), **CLOSE)


def test_every_particle_is_weighted_as_its_level_asks():
    def weigh(engine, p):
        p = replace(p, carry={"log_potential": torch.ones(2, 4, dtype=torch.float64)})
        return engine.weight(engine.score(p), Difference()).log_weights

    engine, p = start(3)
    mixed = weigh(engine, at(engine, p, LEVELS))
    torch.testing.assert_close(mixed, level_by_level(weigh), **CLOSE)


def test_a_run_that_is_out_of_time_denoises_every_particle_from_its_level():
    engine, p = start(3)
    ended = engine.jump(at(engine, p, LEVELS))
    assert (ended.level == STEPS).all()
    expected = level_by_level(lambda engine, p: engine.jump(p).rows.x.sum(1).double().reshape(2, 4))
    torch.testing.assert_close(ended.rows.x.sum(1).double().reshape(2, 4), expected, **CLOSE)


def test_only_final_particles_lose_their_score_when_it_is_invalid():
    def fickle(latents, step):
        bad = torch.as_tensor(step).expand(len(latents)) >= 4
        return torch.where(bad, torch.nan, latents.sum(1))

    engine = make_engine(wrapped(Network()), fickle, steps=STEPS, pool=Local(microbatch=3))
    p = replace(engine.start(4), reward=torch.full((2, 4), 7.0, dtype=torch.float64))
    reward = engine.score(at(engine, p, LEVELS)).reward
    assert reward[0, 3] == -torch.inf
    assert reward[1, 0] == 7.0
