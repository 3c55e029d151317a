"""Weights along ancestries, the one gather, and verbs that must not disturb each other."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

import itscale
from itscale.engine import Engine, Particles, Rows
from itscale.methods import SMC, NestedSMC
from itscale.particles import Always
from itscale.pools import Local
from itscale.potentials import POTENTIALS, get_potential
from itscale.scoring.cache import Cached
from tests.engine.setting import CountingReward, Network, make_engine, total, wrapped
from tests.oracles import DIRECTION, mixture_2d

TILT = 1.7
SETTINGS = [
    {},
    {"ess_threshold": 1.0},
    {"ess_threshold": 0.0},
    {"score_every": 4},
    {"score_window": (2, 6)},
    {"score_window": (1, 7), "score_every": 3, "ess_threshold": 1.0},
]


def linear(x):
    return x @ torch.tensor(DIRECTION, dtype=x.dtype)


def spied(monkeypatch) -> list[torch.Tensor]:
    """Collect what every call of ``weight`` added, in the slots of that moment."""
    increments: list[torch.Tensor] = []
    weight = Engine.weight

    def watched(self, p, potential=None):
        after = weight(self, p, potential)
        increments.append(after.log_weights - p.log_weights)
        return after

    monkeypatch.setattr(Engine, "weight", watched)
    return increments


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("potential", sorted(POTENTIALS))
def test_increments_along_every_ancestry_add_up_to_the_tilted_reward(potential, setting, monkeypatch):
    increments = spied(monkeypatch)
    result = itscale.sample(
        mixture_2d(),
        reward=linear,
        method=SMC(particles=12, potential=potential, **setting),
        steps=10,
        tilt=TILT,
        groups=3,
    )
    lineage = result.lineage()  # row k: the slot from which move k started; row 0 is the first draw as well
    if len(increments) == len(lineage) - 1:  # nothing was scored at level 0
        increments.insert(0, torch.zeros(3, 12, dtype=torch.float64))
    assert len(increments) == len(lineage) == 11
    along = sum(i.gather(1, slots) for i, slots in zip(increments, lineage, strict=True))
    torch.testing.assert_close(along, TILT * result.rewards, rtol=0, atol=1e-9)
    if setting.get("ess_threshold") == 1.0:
        assert (lineage[0] != torch.arange(12)).any()  # or the sums above say little


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("potential", sorted(POTENTIALS))
def test_potentials_of_nested_particles_add_up_to_the_tilted_reward(potential, setting):
    last = []
    itscale.sample(
        mixture_2d(),
        reward=linear,
        method=NestedSMC(particles=4, children=3, potential=potential, **setting),
        steps=10,
        tilt=TILT,
        groups=3,
        on_step=lambda s: last.append(s.particles),
    )
    p = last[-1]
    torch.testing.assert_close(p.carry["log_potential"], TILT * p.reward, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("difference", [2.0, -3.0, 5.0]),
        ("max", [2.0, 2.0, 4.0]),
        ("sum", [2.0, 1.0, 5.0]),
        ("value", [2.0, -1.0, 4.0]),
    ],
)
def test_potentials_along_one_path(name, expected):
    potential = get_potential(name)
    memory = torch.full((1, 1), potential.initial, dtype=torch.float64)
    found = []
    for value in (2.0, -1.0, 4.0):
        gain, memory = potential(torch.full((1, 1), value, dtype=torch.float64), memory)
        found.append(float(gain))
    assert found == expected


def test_unresampled_weights_are_the_tilted_rewards():
    result = itscale.sample(
        mixture_2d(), reward=linear, method=SMC(particles=8, ess_threshold=0), steps=10, tilt=TILT
    )
    torch.testing.assert_close(result.log_weights, TILT * result.rewards, rtol=0, atol=1e-9)
    assert float(result.log_evidence) == pytest.approx(
        float(torch.logsumexp(TILT * result.rewards, 1) - math.log(8)), abs=1e-9
    )


PLAIN = ("samples", "gradient", "noise", "origin", "memo", "known", "gauge")


def labelled(groups: int = 2, n: int = 5) -> Particles:
    """Particles whose every field says which particle it belongs to."""
    slot = torch.arange(groups * n).reshape(groups, n)
    row = slot.flatten().float()[:, None]
    rows = Rows(
        row.clone(),
        raw=row + 100,
        history=(row + 200, row + 300),
        depth=slot.flatten() % 3,
        **{name: row + 400 + 100 * i for i, name in enumerate(PLAIN)},
    )
    p = Particles.first(rows, groups, n)
    values = {
        f.name: slot.to(getattr(p, f.name).dtype) + 1000 * i
        for i, f in enumerate(fields(p))
        if isinstance(getattr(p, f.name), torch.Tensor) and getattr(p, f.name).shape == (groups, n)
    }
    values["valid"] = slot % 3 == 0
    return replace(p, **values, carry={"one": slot + 0.5, "deep": slot[..., None] + torch.arange(3)})


def check_take_gathers_everything(p: Particles) -> None:
    index = torch.tensor([[4, 4, 0], [1, 3, 3]])
    taken = p.take(index)
    checked = 0
    for f in fields(p):
        before, after = getattr(p, f.name), getattr(taken, f.name)
        if isinstance(before, torch.Tensor) and before.ndim == 2:
            assert torch.equal(after, before.gather(1, index)), f.name
            checked += 1
    assert checked >= 8  # what a particle has on the driver
    for name, before in p.carry.items():
        for g in range(2):
            assert torch.equal(taken.carry[name][g], before[g, index[g]]), name
    flat = (index + p.n * torch.arange(2)[:, None]).flatten()
    for f in fields(Rows):
        before, after = getattr(p.rows, f.name), getattr(taken.rows, f.name)
        pairs = zip(before, after, strict=True) if isinstance(before, tuple) else [(before, after)]
        for a, b in pairs:
            assert torch.equal(b, a[flat]), f.name


def test_take_gathers_every_field():
    check_take_gathers_everything(labelled())


@pytest.mark.parametrize("forgotten", ["value", "eve", "log_ratio", "carry", "rows.history", "rows.raw"])
def test_the_check_notices_a_field_that_is_left_behind(forgotten, monkeypatch):
    take = Particles.take

    def forgetful(self, index):
        done = take(self, index)
        if forgotten == "carry":
            return replace(done, carry={**done.carry, "one": self.carry["one"][:, :3]})
        if forgotten == "rows.history":
            return replace(done, rows=done.rows.with_(history=tuple(h[:6] for h in self.rows.history)))
        if forgotten == "rows.raw":
            return replace(done, rows=done.rows.with_(raw=self.rows.raw[:6]))
        return replace(done, **{forgotten: getattr(self, forgotten)[:, :3]})

    monkeypatch.setattr(Particles, "take", forgetful)
    with pytest.raises(AssertionError):
        check_take_gathers_everything(labelled())


def test_joined_rows_keep_what_all_parts_have_and_each_its_memory():
    p = labelled()
    half = p.rows.take(torch.arange(5))
    joined = Rows.join([half, p.rows.take(torch.arange(5, 10))])
    assert torch.equal(joined.x, p.rows.x)
    assert torch.equal(joined.history[1], p.rows.history[1])
    full = half.with_(depth=None)
    mixed = Rows.join([full, full.with_(raw=None, history=full.history[:1])])
    assert mixed.raw is None
    assert mixed.depth is not None
    assert mixed.depth.tolist() == [2] * 5 + [1] * 5
    assert torch.equal(mixed.history[1][:5], full.history[1])
    assert not mixed.history[1][5:].any()


def test_a_row_is_looked_at_once_and_a_level_scored_once():
    engine = make_engine(wrapped(Network()))
    p = engine.look(engine.start(4))
    assert engine.look(p).rows is p.rows
    scored = engine.score(p)
    assert engine.score(scored) is scored
    # copies keep their look and their score
    copies = engine.resample(engine.weight(scored, itscale.potentials.Difference()), Always())
    assert engine.score(engine.look(copies)) is not None
    spent = engine.ledger.spent()
    assert spent.nfe == [4, 4]
    assert spent.reward_calls == [4, 4]


def test_children_lie_beside_each_other_and_child_zero_is_the_only_child():
    engine = make_engine(wrapped(Network()))
    p = engine.look(engine.start(3))
    many, one = engine.propose(p, children=4), engine.propose(p)
    grid = many.rows.x.reshape(2, 3, 4, 3)
    assert torch.equal(grid[:, :, 0], one.rows.x.reshape(2, 3, 3))
    assert (grid[:, :, 0] != grid[:, :, 1]).all()
    assert many.origin.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]] * 2


class Bent:
    """A guide that depends on the state and is far from any optimum."""

    wants_context = False

    def __call__(self, view):
        return 0.3 * torch.tanh(view.here.x) + 0.2


def test_a_shifted_proposal_is_paid_for_in_the_weight():
    """E[f exp(log p/q)] under the shifted move is E[f] under the plain one, whatever the shift."""
    engine = make_engine(mixture_2d(), linear, groups=1, steps=5)
    p = engine.look(engine.propose(engine.look(engine.start(20_000))))
    plain = engine.propose(p).rows.x
    moved = engine.propose(p, guide=Bent())
    weights = moved.log_ratio.exp().flatten()
    # the weight has mean 1 and deviation below 1: 4.89 standard errors
    assert abs(float(weights.mean()) - 1) <= 4.89 * float(weights.std()) / 20_000**0.5
    for f in (lambda x: x[:, 0], lambda x: x[:, 1] ** 2):
        a, b = f(plain), weights * f(moved.rows.x)
        error = ((a.var() + b.var()) / 20_000).sqrt()
        assert abs(float(a.mean() - b.mean())) <= 4.89 * float(error)
        assert abs(float(a.mean() - f(moved.rows.x).mean())) > 10 * float(error)  # the shift is felt
    assert torch.equal(engine.weight(moved).log_weights, moved.log_ratio)


def test_a_jump_puts_the_denoised_samples_in_place_of_the_states():
    model = mixture_2d()
    engine = make_engine(model, linear, steps=6)
    p = engine.look(engine.propose(engine.look(engine.start(5))))
    denoised = model.denoised(p.rows.x, float(engine.times[1]))
    ended = engine.jump(p)
    torch.testing.assert_close(ended.rows.x, denoised, rtol=1e-12, atol=1e-12)
    assert (ended.level == 6).all()
    assert engine.jump(ended) is ended
    final = engine.score(ended)
    torch.testing.assert_close(final.reward, linear(denoised).reshape(2, 5), rtol=1e-6, atol=1e-6)


def test_a_jump_from_a_scored_level_needs_no_new_score():
    engine = make_engine(wrapped(Network()), total)
    p = engine.score(engine.look(engine.start(5)))
    ended = engine.score(engine.jump(p))
    assert torch.equal(ended.reward, p.reward)
    assert engine.ledger.spent().reward_calls == [5, 5]


@pytest.mark.parametrize("bitwise", [False, True])
def test_rows_at_different_levels_are_counted_when_they_are_scored(bitwise):
    reward = CountingReward()
    engine = make_engine(wrapped(Network()), reward, pool=Local(microbatch=4, bitwise=bitwise))
    p = engine.look(engine.start(3))
    q = engine.look(engine.propose(p))
    mixed = engine.score(engine.gather([p, q], torch.tensor([[0, 1, 4, 5], [0, 3, 4, 5]])))
    assert torch.equal(mixed.level, torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]]))
    assert engine.ledger.spent().reward_calls == [4, 4]
    assert reward.samples == 8


@pytest.mark.parametrize("bitwise", [False, True])
def test_samples_that_a_cache_knows_are_no_calls(bitwise):
    reward = CountingReward()
    engine = make_engine(wrapped(Network()), Cached(reward), pool=Local(microbatch=4, bitwise=bitwise))
    p = engine.look(engine.start(3))
    q = engine.look(engine.propose(p))
    engine.score(engine.gather([p, q], torch.tensor([[0, 0, 4, 5], [0, 3, 3, 3]])))
    spent = engine.ledger.spent()
    assert sum(spent.reward_calls) == reward.samples == 5
    assert spent.cached_rewards == 3
