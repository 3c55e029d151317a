"""Random first-hitting times, for networks whose laws change with the time."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.decoders import FirstHitting
from itscale.errors import ConfigError
from itscale.models import wrap_masked
from itscale.process import Masking

N = 20_000


def ones_at(t):
    """Logits under which a token is 1 with probability t."""
    chance = t.double().clamp(1e-9, 1 - 1e-9)
    return torch.stack([(1 - chance).log(), chance.log()], dim=-1)


MODEL = wrap_masked(
    lambda x, t: ones_at(t)[:, None].expand(-1, x.shape[1], -1), vocabulary=2, length=4, time=True
)


def ones(schedule, times, **settings):
    result = itscale.sample(
        MODEL, n=N, solver=FirstHitting(times=times), process=Masking(schedule=schedule), seed=0, **settings
    )
    return result.samples[0].double()


@pytest.mark.parametrize(("schedule", "mean"), [("linear", 0.5), ("cosine", 1 - 2 / math.pi)])
def test_every_position_is_revealed_at_a_time_of_its_own(schedule, mean):
    """Times are independent, their clean shares uniform; so are tokens, with E[t] as their chance."""
    x = ones(schedule, "random")
    error = (mean * (1 - mean) / N) ** 0.5
    assert ((x.mean(dim=0) - mean).abs() < 4 * error).all()
    correlation = torch.corrcoef(x.T)
    assert ((correlation - torch.eye(4)).abs() < 4.5 / N**0.5).all()
    even = ones(schedule, "even")
    spread = float(even.sum(dim=1).var()) / (4 * float(even.mean()) * (1 - float(even.mean())))
    assert spread < 0.85, "at even times, early and late tokens make up for each other"


def test_given_positions_leave_fewer_events():
    x = ones("linear", "random", initial=torch.tensor([2, 0, 2, 1]))
    assert ((x[:, [0, 2]].mean(dim=0) - 0.5).abs() < 4 * 0.5 / N**0.5).all()


def test_positions_together_wait_for_the_last_of_them():
    """Two of four at a time: at the second and the fourth of four uniform times, means 2/5 and 4/5."""
    x = ones("linear", "random", steps=2)
    assert abs(float(x.mean()) - 0.6) < 4 * 0.5 / (4 * N) ** 0.5 * 1.5


def test_models_without_a_time_are_as_they_were():
    blind = wrap_masked(lambda x: torch.zeros(*x.shape, 3), vocabulary=3, length=4)
    first, second = (
        itscale.sample(blind, n=8, solver=FirstHitting(times=times), seed=0).samples
        for times in ("even", "random")
    )
    assert torch.equal(first, second)
    with pytest.raises(ConfigError, match="times must be 'even' or 'random', got 'odd'"):
        FirstHitting(times="odd")


def test_bits_do_not_depend_on_the_batch():
    def run(microbatch, groups):
        return itscale.sample(
            MODEL,
            reward=lambda sequences: sequences.sum(1).float(),
            method=itscale.methods.SMC(particles=6),
            solver=FirstHitting(times="random"),
            groups=groups,
            seed=1,
            pool=itscale.pools.Local(microbatch=microbatch, bitwise=True),
        )

    together, alone = run(4, [0, 1, 2]), run(4, [2])
    assert torch.equal(together.samples[2], alone.samples[0])
    assert torch.equal(together.log_evidence[2], alone.log_evidence[0])
