"""Beams whose width changes: cost, law and widths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from itscale.errors import ConfigError
from itscale.methods import Beam
from itscale.preparation import prepare
from tests.contracts.methods import STEPS, check_claim, run
from tests.engine.setting import Network, make_engine, wrapped
from tests.solvers.drive import gaussian

NARROW = Beam(particles=5, children=3, schedule="narrowing", selection="unbiased")


def test_a_narrowing_beam_keeps_its_law():
    check_claim(NARROW)


@pytest.mark.parametrize("children", [8, 11, 15])
def test_children_share_the_weight_of_their_parent(children):
    engine = make_engine(wrapped(Network()), steps=5)
    p = engine.look(engine.start(4))
    p = replace(p, log_weights=torch.tensor([[0.3, -1.0, 2.0, 0.0], [0.0, 1.0, -torch.inf, 0.5]]).double())
    spread = NARROW._spread(engine, p, children)
    assert spread.n == children
    parent = torch.arange(4).repeat_interleave(
        torch.tensor([children // 4 + (i < children % 4) for i in range(4)])
    )
    for slot in range(4):
        mine = spread.log_weights[:, parent == slot].exp().sum(1) / children
        torch.testing.assert_close(mine, p.log_weights[:, slot].exp() / 4, rtol=1e-12, atol=0)
    assert len(spread.rows.x.unique(dim=0)) == 2 * children  # every child has noise of its own


def test_a_narrowing_beam_costs_what_a_constant_one_does():
    plans = [
        prepare(
            gaussian(0.3, 0.8), reward=lambda x: x[:, 0], method=replace(NARROW, schedule=s), steps=STEPS
        ).plan
        for s in ("constant", "narrowing")
    ]
    assert plans[0] == plans[1]
    result = run(NARROW, groups=2)
    assert result.spent.nfe == [plans[1].nfe] * 2
    widths = [row["particles"] for row in result.trace]
    assert widths == [5, 4, 3, 3, 2, 2, 1, 1, 1]  # 5^(1 - k/7), and the last move has one child each
    assert result.samples.shape == (2, 1, 1)


def test_the_best_children_go_on_wherever_the_beam_is_wide():
    seen = []
    run(replace(NARROW, selection="top"), groups=2, on_step=lambda step: seen.append(step.particles.value))
    for value in seen[:-1]:
        assert (value.diff(dim=1) <= 0).all()


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ConfigError, match="schedule must be 'constant' or 'narrowing'"):
        Beam(schedule="widening")
