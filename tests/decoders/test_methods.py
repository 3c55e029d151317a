"""Every method on a masked model: it tilts as it claims, spends what it planned, goes on where it was."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import itscale
from itscale.engine import Rows
from itscale.errors import ConfigError
from itscale.methods import (
    CTS,
    DTS,
    FKC,
    RBF,
    SMC,
    SVDD,
    Beam,
    BestOfN,
    CoDe,
    DTSStar,
    Funnel,
    ImportanceSampling,
    NestedSMC,
    ParticleGibbs,
    Profile,
    Redraw,
    TwistedSMC,
    Unguided,
    VASRMax,
    VerifierThreshold,
    WasteFreeSMC,
)
from itscale.preparation import prepare
from itscale.values import Completions
from tests.contracts.methods import Pulled, same
from tests.decoders.toy import toy
from tests.engine.setting import METHODS

GROUPS, TILT, Z = 400, 1.0, 4.89
QUANTILES = tuple((-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0) for _ in range(6))
SLOPES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
PROFILE = Profile(tuple(k / 6 for k in range(6)), (1.0,) * 6, SLOPES, reward_std=0.8, quantiles=QUANTILES)
EXACT: list[Any] = [
    ImportanceSampling(particles=16),
    SMC(particles=16),
    SMC(particles=16, potential="max", score_every=2),
    SMC(particles=16, potential="sum", score_window=(3, 5), scheme="ssp", ess_threshold=1.0),
    SMC(particles=16, schedule="late"),
    NestedSMC(particles=4, children=4),
    FKC(particles=16),
    TwistedSMC(particles=16, tempering="polynomial"),
    CTS(particles=16, profile=PROFILE, drift="none"),
    Funnel(particles=16),
    Beam(particles=6, children=3, selection="unbiased"),
    DTS(particles=16),
    ParticleGibbs(particles=4, sweeps=40, burn_in=20),
    ParticleGibbs(particles=4, sweeps=40, burn_in=20, ancestor_sampling=True, scheme="multinomial"),
    WasteFreeSMC(particles=16),
    WasteFreeSMC(particles=15, moves=(Redraw(start=0, end=0.5, repeats=2),)),
]
SEARCHES: list[Any] = [
    BestOfN(particles=8),
    SVDD(particles=4, children=4),
    VASRMax(particles=16),
    CoDe(particles=4, children=4, block=2),
    Beam(particles=4, children=4),
    RBF(particles=4),
    VerifierThreshold(particles=4, profile=PROFILE),
    DTSStar(particles=8),
]
ROLLING = SVDD(particles=4, children=4, selection="argmax", rollover="parent")
TREES = (DTS, DTSStar)  # whose plan says how many roll-outs there are at most
REFUSED = (
    "restart, weighted",
    "lidar",
    "tds",
    "das",
    "cts",
    "cts, population",
    "waste-free, cycles",
    "psi",
    "psi, no gradient",
    "zero-order",
    "paths",
    "epsilon-greedy",
    "reno",
    "reno, zero-order",
    "dno",
)


def name_of(method: Any) -> str:
    return type(method).__name__


def run(method: Any, groups: int = 3, **settings: Any) -> itscale.Result:
    model, _, reward = toy()
    return itscale.sample(model, reward=reward, method=method, tilt=TILT, groups=groups, seed=5, **settings)


@pytest.mark.parametrize("method", EXACT, ids=name_of)
def test_the_weighted_law_is_the_tilted_one(method):
    check_claim(method)


@pytest.mark.parametrize(
    "method", [SMC(particles=16), NestedSMC(particles=4, children=4)], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize(
    "value", [Completions(samples=2), Completions(samples=3, average="mean")], ids=lambda v: v.average
)
def test_a_value_changes_no_target(method, value):
    check_claim(method, value=value)


@pytest.mark.parametrize("method", [SMC(particles=16), *EXACT[-3:-2]], ids=name_of)
def test_the_order_of_positions_changes_no_target(method):
    check_claim(method, solver="confidence")


def check_claim(method: Any, **settings: Any) -> None:
    """``Z-hat`` and ``Z-hat`` times a weighted mean have the means they must, in standard errors."""
    model, rewards, _ = toy()
    law, log_z = model.tilted_law(rewards, TILT)
    target = float(law @ rewards)
    result = run(method, GROUPS, **settings)
    per_group = result.expect(result.rewards).per_group
    assert result.claim["target"] == "tilted"
    if result.claim["evidence"] is None:  # right as sweeps are added
        error = float(per_group.std()) / GROUPS**0.5
        assert abs(float(per_group.mean()) - target) <= Z * error
        assert abs(float(per_group.mean()) - float(model.law @ rewards)) > Z * error
        return
    evidence = (result.log_evidence - log_z).exp()
    # what a few runs of tiny weight hide is seen where the function is bounded
    for estimate, truth in ((evidence, 1.0), (evidence * (per_group - target), 0.0)):
        error = float(estimate.std()) / GROUPS**0.5
        assert abs(float(estimate.mean()) - truth) <= Z * error


@pytest.mark.parametrize("method", SEARCHES, ids=name_of)
def test_a_search_claims_nothing_and_finds_more(method):
    result, plain = run(method, 100), run(Unguided(particles=8), 100)
    assert result.claim == {"target": None, "evidence": None}
    assert float(result.best().rewards.mean()) > float(plain.rewards.mean()) + 1


@pytest.mark.parametrize("method", [Unguided(particles=6), *EXACT, *SEARCHES, ROLLING], ids=name_of)
@pytest.mark.parametrize("solver", ["first-hitting", "ancestral"])
def test_a_run_spends_what_was_planned(method, solver):
    model, _, reward = toy()
    plan = prepare(model, reward=reward, method=method, solver=solver, steps=5).plan
    spent = run(method, solver=solver, steps=5).spent
    # ancestral moves that reveal nothing save a look; chains that draw on draw among last tokens, at no look
    saves = solver == "ancestral" or method in (ROLLING, *SEARCHES[-3:-1])
    for group in range(3):
        assert spent.nfe[group] <= plan.nfe if saves else spent.nfe[group] == plan.nfe
        if not isinstance(method, (*TREES, Unguided)):
            assert spent.reward_calls[group] == plan.reward_calls


@pytest.mark.parametrize("method", [Unguided(particles=6), *EXACT, *SEARCHES, ROLLING], ids=name_of)
def test_a_run_goes_on_to_the_same_bits(method, tmp_path: Path):
    whole = run(method, steps=5)
    moves = 0

    def pull(step: Any) -> None:
        nonlocal moves
        moves += 1
        if moves == 2:
            raise Pulled

    with pytest.raises(Pulled):
        run(method, steps=5, checkpoint=tmp_path / "state.pt", on_step=pull)
    resumed = run(method, steps=5, checkpoint=tmp_path / "state.pt")
    for name in ("samples", "states", "rewards", "log_weights", "log_evidence", "ess", "ancestors"):
        assert same(getattr(resumed, name), getattr(whole, name)), name
    mine, theirs = asdict(resumed.spent), asdict(whole.spent)
    for unit in mine.keys() - {"seconds", "peak_memory_bytes"}:
        assert mine[unit] == theirs[unit], unit


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_says_why_before_any_call(name):
    model, _, _ = toy()
    calls = []
    reward = itscale.scoring.Reward.of(lambda sequences: calls.append(1), name="never")
    with pytest.raises(ConfigError, match="masked model"):
        itscale.sample(model, reward=reward, method=METHODS[name])
    assert not calls


@pytest.mark.parametrize("method", [Unguided(particles=5), SMC(particles=5), RBF(particles=2)], ids=str)
@pytest.mark.parametrize("solver", ["first-hitting", "ancestral"])
def test_bits_do_not_depend_on_batches_or_groups(method, solver):
    whole = run(method, 3, solver=solver, steps=4)
    parts = run(method, 3, solver=solver, steps=4, pool=itscale.pools.Local(microbatch=3))
    alone = run(method, [1], solver=solver, steps=4)
    for name in ("samples", "rewards", "log_weights"):
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name
        assert torch.equal(getattr(whole, name)[1:2], getattr(alone, name)), name


def test_joined_rows_know_which_of_their_logits_are_of_another_state():
    x = torch.arange(6).reshape(3, 2)
    seen = Rows(x, raw=torch.zeros(3, 2, 4))
    moved = Rows(x, raw=torch.ones(3, 2, 4), known=torch.tensor([True, False, True]))
    joined = Rows.join([seen, moved])
    assert joined.known is not None
    assert joined.known.tolist() == [True, True, True, True, False, True]
    assert Rows.join([seen, seen]).known is None
    unseen = Rows.join([moved, Rows(x)])
    assert unseen.raw is None
    assert unseen.known is None
    kept = joined.take(torch.tensor([4, 0])).known
    assert kept is not None
    assert kept.tolist() == [False, True]
