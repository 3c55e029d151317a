"""What every method must satisfy. A new method joins by adding an instance to ``METHOD_CASES``."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import itscale
import itscale.preparation
from itscale.budget import Budget
from itscale.methods import (
    AFDPS,
    CTS,
    DAPS,
    DAS,
    DDNM,
    DDRM,
    DDSMC,
    DNO,
    DPS,
    DTS,
    FKC,
    FPS,
    LGDMC,
    MPGD,
    RBF,
    SMC,
    SVDD,
    TDS,
    TFG,
    TMPD,
    UGD,
    Alive,
    Beam,
    BestOfN,
    CoDe,
    ConjugateSMC,
    DiffPIR,
    DTSStar,
    EnKG,
    EpsilonGreedy,
    FreeDoM,
    Funnel,
    Guided,
    ImportanceSampling,
    LiDAR,
    NestedSMC,
    ParticleGibbs,
    PathSearch,
    PiGDM,
    PnPDM,
    Profile,
    PsiSMC,
    REDDiff,
    Redraw,
    ReNO,
    RestartSMC,
    SMCDiff,
    TwistedSMC,
    Unguided,
    VASRMax,
    VerifierThreshold,
    WasteFreeSMC,
    ZeroOrder,
    ZeroOrderSearch,
)
from itscale.operators import GaussianLikelihood, Mask
from itscale.result import Result
from itscale.solvers import Interval, Restart, Solver
from tests.solvers.drive import affine_law, gaussian

# as a pilot might have found them; the claims hold for any numbers
SPREAD = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01)
SLOPES = (0.0, 0.3, 0.5, 0.6, 0.8, 0.9, 1.0, 1.0)
DECILES = tuple((-0.7, -0.4, -0.1, 0.1, 0.3, 0.5, 0.7, 1.0, 1.3) for _ in range(8))
PROFILE = Profile(tuple(k / 8 for k in range(8)), SPREAD, SLOPES, SLOPES, reward_std=0.8, quantiles=DECILES)

CYCLES = (Interval(kappa_min=0.3, kappa_max=1.0, points=9, repeats=2),)
ON_THE_ODE = (ZeroOrderSearch, PathSearch, ReNO)
METHOD_CASES: list[Any] = [
    Alive(particles=8, batch=4),
    Unguided(particles=32),
    BestOfN(particles=32),
    ImportanceSampling(particles=32),
    SMC(particles=32),
    FKC(particles=32),
    FKC(particles=32, corrections=1, uncorrected=2),
    FKC(particles=32, ess_threshold=0.5, interval=(0.2, 0.9)),
    SMC(particles=32, potential="max", score_every=3),
    SMC(particles=32, potential="sum", score_window=(6, 7)),
    SMC(particles=32, potential="value", score_window=(5, 7), score_every=2),
    SMC(particles=32, scheme="ssp", ess_threshold=1.0),
    NestedSMC(particles=8, children=4),
    SVDD(particles=8, children=4),
    SVDD(particles=8, children=4, selection="argmax"),
    TwistedSMC(particles=32, tempering=(0.9, 0.1, 0.7, 0.3, 1.2, 0.5, 0.2, 1.0)),
    TwistedSMC(particles=32, tempering="polynomial", guide="network", cap=0.5, scheme="killing"),
    TwistedSMC(particles=32, tempering="adaptive", guide="denoised", spread=SPREAD),
    TDS(particles=32),
    DAS(particles=32),
    CTS(particles=32, profile=PROFILE),
    LiDAR(particles=32),
    LiDAR(particles=32, bank=5, bank_steps=2, bank_solver="ddim", cap=None, tempering="ramp"),
    CTS(particles=32, profile=PROFILE, drift="population"),
    CTS(particles=32, profile=PROFILE, drift="regression"),
    CTS(particles=32, profile=PROFILE, drift="none", ess_threshold=1.0),
    Funnel(particles=32),
    VASRMax(particles=32),
    CoDe(particles=8, children=4, block=3),
    CoDe(particles=8, children=4, block=2, selection="soft"),
    Beam(particles=8, children=4),
    Beam(particles=8, children=4, selection="unbiased"),
    SVDD(particles=8, children=4, selection="argmax", rollover="historical"),
    VerifierThreshold(particles=4, profile=PROFILE),
    RBF(particles=4),
    RBF(particles=2, initial=3, threshold="parent", min_draws=2, draws=6, spend="published"),
    DTS(particles=32),
    DTS(particles=32, walkers=5, power=0.7, branch_every=3, defensive=0.5),
    DTS(particles=32, defensive=1.0, weights="tree"),
    DTSStar(particles=32),
    ParticleGibbs(particles=8),
    ParticleGibbs(particles=4, sweeps=6, burn_in=3, scheme="multinomial", ancestor_sampling=True),
    ZeroOrderSearch(particles=4, rounds=3),
    ZeroOrderSearch(particles=3, neighbours=2, cosine=0.0),
    PathSearch(particles=3, children=2, descent=2),
    PathSearch(particles=2, children=3, start=0.4, back=0.9, descent=1, inner="heun"),
    EpsilonGreedy(particles=3, rounds=2, candidates=3),
    EpsilonGreedy(particles=2, rounds=3, candidates=1, epsilon=0.0, radius=1.5),
    ReNO(particles=3, iterations=9, rate=0.5),
    ReNO(particles=2, iterations=9, rate=0.1, clip=None, momentum=0.0, recompute=False),
    ReNO(particles=2, iterations=9, rate=0.5, gradient=ZeroOrder(directions=2, spread=0.3)),
    DNO(particles=3, iterations=9, block=1),
    DNO(particles=2, iterations=9, block=1, permutations=3, gradient="zero-order"),
    RestartSMC(particles=32, rule="weight", intervals=CYCLES, inner="ddim"),
    RestartSMC(particles=32, rule="metropolis", intervals=CYCLES, inner="sde-heun"),
    WasteFreeSMC(particles=33, moves=CYCLES, inner="sde-heun"),
    WasteFreeSMC(particles=32),
    WasteFreeSMC(
        particles=30, moves=(Redraw(start=0, end=0.5, repeats=1), Redraw(start=0.5, end=0.9, repeats=2))
    ),
    PsiSMC(particles=32, burn_in=3),
    PsiSMC(particles=32, burn_in=2, start="plain", guide="network", cap=1.0),
    PsiSMC(particles=32, chains=4, burn_in=2, every=2, proposal="pcn"),
    DPS(particles=32),
    DPS(particles=32, correct=True, zeta=0.3),
    PiGDM(particles=32),
    PiGDM(particles=32, correct=True, recurrence=2),
    TMPD(particles=32, correct=True),
    TMPD(particles=32, correct=True, covariance="diagonal"),
    LGDMC(particles=32, correct=True, samples=4),
    MPGD(particles=32, correct=True),
    FreeDoM(particles=32, correct=True, window=(0.2, 0.5)),
    UGD(particles=32),
    TFG(particles=32, correct=True, samples=2),
    TFG(particles=32, correct=True, rho=0.0, recurrence=2),
    ConjugateSMC(particles=32),
    AFDPS(particles=32),
    DDNM(particles=32),
    DDRM(particles=32, noiseless=True),
    DiffPIR(particles=32),
    DAPS(particles=32, ode_steps=3),
    PnPDM(particles=8, iterations=8),
    FPS(particles=32),
    SMCDiff(particles=32),
    DDSMC(particles=32, prior_std=0.8),
    DDSMC(particles=32, prior_std=0.8, eta=0.7),
    REDDiff(particles=32),
    EnKG(particles=32),
]
STEPS, TILT, GROUPS = 8, 1.5, 400
MEAN, STD = 0.3, 0.8
Z = 4.89  # two-sided level 1e-6
TENSORS = ("samples", "states", "rewards", "log_weights", "log_evidence", "ess", "ancestors", "times")


@itscale.reward(name="first", modality="vector", differentiable=True)
def reward(vectors):
    return vectors[:, 0]


MEASUREMENT, NOISE = torch.tensor([0.9]), 0.7


def reward_of(method: Any) -> Any:
    """The reward, or for methods that need one a likelihood: both tilt a Gaussian into a Gaussian."""
    if not method.needs.likelihood:
        return reward
    return itscale.scoring.as_reward(GaussianLikelihood(Mask(torch.tensor([True])), MEASUREMENT, NOISE))


def tilt_of(method: Any) -> float:
    """Conjugate moves are those of the posterior itself."""
    return 1.0 if method is not None and method.needs.likelihood == "conjugate" else TILT


def solver_of(method: Any) -> str:
    """Metropolis cycles keep the exact law, so they need a solver whose own law is close to it."""
    if isinstance(method, ON_THE_ODE):
        return "ddim"
    cycles = method.intervals if isinstance(method, WasteFreeSMC) else ()
    return "sde-heun" if cycles or getattr(method, "rule", None) == "metropolis" else "ancestral"


def base_solver(method: Any) -> str | Solver:
    """The sampler whose law is tilted: weighted cycles are part of it, accepted ones leave it as it is."""
    if getattr(method, "rule", None) == "weight":
        return Restart(method.intervals, main=solver_of(method), inner=method.inner)
    return solver_of(method)


def run(method: Any, groups: int = GROUPS, **settings: Any) -> Result:
    """Tilt N(0.3, 0.8^2) by exp(1.5 x), with a solver whose law is known to rounding."""
    return itscale.sample(
        gaussian(MEAN, STD),
        reward=reward_of(method),
        method=method,
        steps=STEPS,
        tilt=tilt_of(method),
        groups=groups,
        seed=21,
        process=itscale.ODE() if isinstance(method, ON_THE_ODE) else itscale.SDE(),
        solver=solver_of(method),
        **settings,
    )


def base_law(method: Any = None) -> tuple[float, float]:
    """Mean and variance of the discretised sampler, exactly."""
    if isinstance(method, DDSMC):  # whose own chain keeps the law of such data
        return MEAN, STD**2
    solver = base_solver(method)
    setup = itscale.preparation.prepare(
        gaussian(MEAN, STD), process=itscale.SDE(), solver=solver, steps=STEPS
    )
    law = affine_law(setup.process, solver, setup.times, 1.0)
    return law.mean, law.variance


def tilted_truth(method: Any = None) -> tuple[float, float]:
    """Mean under p exp(tilt x), and log Z, of the discretised sampler: exact, with no bias from few steps."""
    mean, variance = base_law(method)
    if method is not None and method.needs.likelihood:
        tilt = tilt_of(method)
        noise = NOISE**2 / tilt
        y, total = float(MEASUREMENT[0]), variance + noise
        # exp(tilt log N(y; x, s^2)) is a constant times N(y; x, s^2 / tilt)
        constant = (math.log(2 * math.pi * noise) - tilt * math.log(2 * math.pi * NOISE**2)) / 2
        log_z = constant - (y - mean) ** 2 / (2 * total) - math.log(2 * math.pi * total) / 2
        return mean + variance / total * (y - mean), log_z
    return mean + TILT * variance, TILT * mean + TILT**2 * variance / 2


def check_claim(method: Any, **settings: Any) -> None:
    """The weighted law is the one that the method claims, as far as its evidence makes that testable.

    ``Z-hat`` times a weighted mean is unbiased for ``Z`` times the mean under the target, for any number of
    particles; so is ``Z-hat`` itself. Both are judged by standard errors over groups.
    """
    result = run(method, **settings)
    if method.claim.target is None:
        assert result.log_evidence.isnan().all()
        assert (result.log_weights == 0).all()
        return
    mean, _ = base_law(method)
    target, log_z = tilted_truth(method)
    per_group = result.expect(result.samples[..., 0].double()).per_group
    if method.claim.target == "base":
        error = float(per_group.std()) / GROUPS**0.5
        assert abs(float(per_group.mean()) - mean) <= Z * error
        return
    if method.claim.target == "tilted" and method.claim.evidence is None:
        error = float(per_group.std()) / GROUPS**0.5
        assert abs(float(per_group.mean()) - target) <= Z * error
        assert abs(float(per_group.mean()) - mean) > Z * error
        return
    evidence = (result.log_evidence - log_z).exp()
    for estimate, truth in ((evidence, 1.0), (evidence * (per_group - mean), target - mean)):
        error = float(estimate.std()) / GROUPS**0.5
        assert abs(float(estimate.mean()) - truth) <= Z * error


def check_result_is_complete(method: Any) -> None:
    result = run(method, groups=3)
    n = handed_out(method)
    assert result.samples.shape == result.states.shape == (3, n, 1)
    assert result.rewards.shape == result.log_weights.shape == (3, n)
    assert result.log_evidence.shape == (3,)
    assert result.times.shape == (STEPS + 1,)
    assert len(result.trace) == len(result.ess)
    if getattr(method, "has_lineage", True):
        assert result.ess.shape == (STEPS + 1, 3)
        assert result.ancestors is not None
        assert result.ancestors.shape == (STEPS + 1, 3, n)
        assert result.lineage().shape == (STEPS + 1, 3, n)
    else:
        assert result.ancestors is None
    assert result.claim == asdict(method.claim)
    scored = reward_of(method).score(result.samples.flatten(0, 1)).values.reshape(3, n)
    torch.testing.assert_close(result.rewards.float(), scored.float(), rtol=0, atol=0)
    most = torch.tensor([row["particles"] for row in result.trace])[:, None]
    assert ((result.ess >= 1) & (result.ess <= most + 1e-9)).all()
    torch.testing.assert_close(result.weights.sum(1), torch.ones(3, dtype=torch.float64))


def check_expectation_of_a_constant(method: Any) -> None:
    result = run(method, groups=3)
    estimate = result.expect(lambda x: torch.ones(len(x)))
    torch.testing.assert_close(estimate.per_group, torch.ones(3, dtype=torch.float64))


def check_retilt_to_the_same_tilt_changes_nothing(method: Any) -> None:
    if method.claim.target != "tilted":
        return
    result = run(method, groups=3)
    again = result.retilt(tilt_of(method))
    assert torch.equal(again.log_weights, result.log_weights)
    torch.testing.assert_close(
        again.log_evidence, result.log_evidence, rtol=1e-12, atol=1e-12, equal_nan=True
    )


def check_saved_result_comes_back(method: Any, folder: Path) -> None:
    result = run(method, groups=3)
    back = Result.load(result.save(folder))
    for f in fields(Result):
        mine, theirs = getattr(result, f.name), getattr(back, f.name)
        if isinstance(mine, torch.Tensor):
            assert mine.dtype == theirs.dtype
            torch.testing.assert_close(theirs, mine, rtol=0, atol=0, equal_nan=True)
        elif f.name != "config":  # which holds tuples that JSON returns as lists
            assert mine == theirs, f.name


def handed_out(method: Any) -> int:
    """How many particles a result holds."""
    if isinstance(method, Funnel):
        return method.core().sizes(method.particles, STEPS)[-1]
    return method.particles * sets(method)


def sets(method: Any) -> int:
    """How many populations a result holds."""
    return method.sweeps + 1 - method.burn_in if isinstance(method, ParticleGibbs) else 1


def multiple(method: Any) -> int:
    """What the number of particles must be a multiple of."""
    return (getattr(method, "chains", None) or 1) * getattr(method, "multiple", 1)


class Pulled(KeyboardInterrupt):
    """The plug."""


def check_resumes_to_the_same_bits(method: Any, folder: Path) -> None:
    """Interrupted after the first, a middle and the last move, and asked for again."""
    whole = run(method, groups=3)
    for level in (1, 4, STEPS):
        file = folder / f"level-{level}.pt"

        moves = 0

        def pull(step: Any, level: int = level) -> None:
            nonlocal moves
            moves += 1
            if moves == level:
                raise Pulled

        with pytest.raises(Pulled):
            run(method, groups=3, checkpoint=file, on_step=pull)
        assert file.exists()
        resumed = run(method, groups=3, checkpoint=file)
        assert not file.exists()
        for name in TENSORS:
            assert same(getattr(resumed, name), getattr(whole, name)), name
        spent, expected = asdict(resumed.spent), asdict(whole.spent)
        for unit in expected.keys() - {"seconds", "peak_memory_bytes"}:
            assert spent[unit] == expected[unit], unit
        assert len(resumed.trace) == len(whole.trace)


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Equal bits, NaN included."""
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(7e77), b.nan_to_num(7e77))


def check_budget_is_obeyed(method: Any) -> None:
    if isinstance(method, ZeroOrderSearch):  # which spends it on rounds
        method = replace(method, rounds=None)
        for unit, each in (("nfe", STEPS), ("model_rows", STEPS), ("reward_calls", 1)):
            spent = used(run(method, groups=2, budget=Budget(**{unit: 263})), unit)
            assert 263 - each * method.particles * method.neighbours < spent <= 263
        return
    if isinstance(
        method, RBF | VerifierThreshold
    ):  # which spends what it gets, whatever the number of chains
        for unit in ("nfe", "model_rows", "reward_calls"):
            limit = 263
            assert limit - method.particles <= used(
                run(method, groups=2, budget=Budget(**{unit: limit})), unit
            )
            assert used(run(method, groups=2, budget=Budget(**{unit: limit})), unit) <= limit
        return
    if isinstance(method, Alive):  # which ends when enough samples satisfy its constraint
        for unit in ("nfe", "model_rows", "reward_calls"):
            assert (
                used(run(replace(method, particles=None), groups=2, budget=Budget(**{unit: 163})), unit)
                <= 163
            )
        return
    if isinstance(method, ReNO | DNO):  # which spend it on iterations
        tries = 1 if method.zero_order is None else 1 + method.zero_order.directions
        for unit, most in (("nfe", 2 * STEPS), ("model_rows", 4 * STEPS), ("reward_calls", 1)):
            spent = used(run(replace(method, iterations=None), groups=2, budget=Budget(**{unit: 663})), unit)
            assert 663 - most * method.particles * tries < spent <= 663
        return
    flexible = replace(method, particles=None)
    most = 663 if isinstance(method, Guided) else 263  # rows that go backwards count three times
    for unit, limit in (("nfe", 263), ("model_rows", most), ("reward_calls", 141)):
        result = run(flexible, groups=2, budget=Budget(**{unit: limit}))
        assert used(result, unit) <= limit
        # the budget is used: one particle more, or as many as there must be at once, would not fit
        larger = replace(method, particles=mean_particles(method, result) + multiple(method))
        assert used(run(larger, groups=2), unit) > limit


def mean_particles(method: Any, result: Result) -> int:
    """How many particles a run had: their mean over the looks where they vary."""
    if isinstance(method, Funnel):
        return sum(row["particles"] for row in result.trace[:STEPS]) // STEPS
    return result.particles // sets(method)


def used(result: Result, unit: str) -> int:
    """What one group has used of a limit: a row that goes backwards counts for two more model rows."""
    backward = result.spent.backward_rows // result.groups if unit == "model_rows" else 0
    return max(getattr(result.spent, unit)) + 2 * backward


CHECKS = [
    check_claim,
    check_result_is_complete,
    check_expectation_of_a_constant,
    check_retilt_to_the_same_tilt_changes_nothing,
    check_budget_is_obeyed,
]
