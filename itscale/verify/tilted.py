"""Tilted laws: every method that claims one, against the closed form on a Gaussian mixture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from itscale.methods import (
    CTS,
    DAS,
    DTS,
    FKC,
    SMC,
    TDS,
    Alive,
    Beam,
    Funnel,
    ImportanceSampling,
    LiDAR,
    Method,
    NestedSMC,
    ParticleGibbs,
    PsiSMC,
    RestartSMC,
    TwistedSMC,
    WasteFreeSMC,
)
from itscale.models.analytic import GaussianMixture
from itscale.process import SDE
from itscale.result import Result
from itscale.sampling import sample
from itscale.scoring import Reward
from itscale.solvers import Interval
from itscale.verify.check import Check, judge

STEPS = 50
ALLOWANCE = 0.02
"""What 50 steps of a second-order solver cost: under 0.015 in E[r] and log Z, against 400 steps."""
FIRST_ORDER_ALLOWANCE = 0.08
"""The same for the first-order solvers: 0.06 in E[r], 0.05 in log Z."""
SHARP = {"process": SDE(diffusion="sigma")}
"""Where the tilt is above 1, for methods that trust early values fully. Under the natural coefficient the
first moves forget what the first weights were given for: at tilt 3 their estimates of Z have skewed tails and
their standard errors say little. Methods that temper or calibrate exponents keep the default process."""

DIRECTION = (1.0, 0.5)
CENTER = (2.0, 1.0)


@dataclass(frozen=True)
class Problem:
    """A mixture, a reward, and the exact tilted law."""

    name: str
    tilt: float
    reward: Reward
    base: GaussianMixture
    target: GaussianMixture
    log_z: float
    expected_reward: float
    mode_shares: Tensor


@dataclass(frozen=True)
class Entrant:
    """A method with the setting it is judged in."""

    name: str
    method: Method
    allowance: float = ALLOWANCE
    setting: dict[str, Any] = field(default_factory=dict)
    sharpest: float = math.inf  # largest tilt that its sizes can carry
    sharp: dict[str, Any] = field(default_factory=lambda: SHARP)  # setting where the tilt is above 1


def linear_reward(samples: Tensor) -> Tensor:
    return samples @ torch.tensor(DIRECTION, dtype=samples.dtype)


def quadratic_reward(samples: Tensor) -> Tensor:
    return -(samples - torch.tensor(CENTER, dtype=samples.dtype)).square().sum(dim=-1) / 2  # over coordinates


def problem(kind: str, tilt: float) -> Problem:
    """Build a problem on four well-separated components in the plane."""
    base = GaussianMixture(
        [0.45, 0.25, 0.20, 0.10],
        [[-2.0, 0.0], [1.5, 1.5], [1.0, -2.0], [3.0, 0.0]],
        [0.5, 0.4, 0.6, 0.3],
        dtype=torch.float64,
    )
    if kind == "linear":
        target, log_z = base.tilted_linear(DIRECTION, tilt)
        function = linear_reward
        expected = float(target.mean() @ torch.tensor(DIRECTION, dtype=torch.float64))
    else:
        target, log_z = base.tilted_quadratic(CENTER, tilt)
        function = quadratic_reward
        off = target.mean() - torch.tensor(CENTER, dtype=torch.float64)
        expected = -float(off @ off + target.cov().trace()) / 2
    exact = target.sample(400_000, torch.Generator().manual_seed(0))
    shares = base.mode_of(exact).bincount(minlength=4).double() / len(exact)
    reward = Reward.of(function, name=kind, modality="vector", differentiable=True)
    return Problem(f"{kind}, tilt {tilt:g}", tilt, reward, base, target, log_z, expected, shares)


ENTRANTS = (
    Entrant("importance", ImportanceSampling(), setting={"solver": "dpm++2m"}, sharpest=1.0),
    # nothing is forbidden here, so that this is importance sampling
    Entrant("alive", Alive(), setting={"solver": "dpm++2m"}, sharpest=1.0),
    Entrant("smc", SMC()),
    Entrant("smc, scored every 10", SMC(score_every=10)),
    Entrant("smc, max potential, every 10", SMC(potential="max", score_every=10), sharpest=1.0),
    Entrant("smc, sum potential, every 25", SMC(potential="sum", score_every=25)),
    Entrant("smc, ssp, always resampled", SMC(scheme="ssp", ess_threshold=1.0)),
    Entrant("nested-smc, 4 children", NestedSMC(children=4)),
    Entrant("smc, ancestral", SMC(), FIRST_ORDER_ALLOWANCE, {"solver": "ancestral"}),
    Entrant(
        "smc, g = sigma, Euler-Maruyama",
        SMC(),
        FIRST_ORDER_ALLOWANCE,
        {"solver": "euler-maruyama", "process": SDE(diffusion="sigma")},
    ),
    Entrant("smc, sde-heun", SMC(), setting={"solver": "sde-heun"}),
    Entrant("fkc", FKC()),
    Entrant("funnel", Funnel()),
    Entrant("dts", DTS(), sharpest=1.0),
    Entrant("tds", TDS()),
    Entrant("das", DAS(), sharp={}),
    Entrant("cts", CTS(), sharp={}),
    Entrant("lidar", LiDAR()),
    Entrant("cts without gradients", CTS(drift="population"), sharp={}),
    Entrant("cts with a schedule", CTS(schedule="half"), sharp={}),
    Entrant("twisted-smc, adaptive exponents", TwistedSMC(tempering="adaptive"), sharp={}),
    Entrant("beam, unbiased", Beam(selection="unbiased")),
    Entrant("restart-smc, metropolis", RestartSMC()),
    Entrant("waste-free-smc", WasteFreeSMC()),
    Entrant(
        "waste-free-smc, cycles", WasteFreeSMC(moves=(Interval(kappa_min=0.3, kappa_max=1.0, points=5),))
    ),
    Entrant("psi-smc", PsiSMC(burn_in=2)),
    Entrant("particle-gibbs", ParticleGibbs(sweeps=2, burn_in=0)),
    Entrant("smc on vp", SMC(), FIRST_ORDER_ALLOWANCE, {"process": SDE(interpolant="vp", diffusion="sigma")}),
)
QUICK = (
    "importance",
    "smc",
    "smc, scored every 10",
    "nested-smc, 4 children",
    "smc, ancestral",
    "das",
    "cts",
)


def tilted_laws(problems: list[Problem], particles: int, groups: int, quick: bool) -> list[Check]:
    """Run every entrant on every problem it can carry."""
    checks = []
    for p in problems:
        for entrant in ENTRANTS:
            if p.tilt > entrant.sharpest or (quick and entrant.name not in QUICK):
                continue
            setting = {**entrant.sharp, **entrant.setting} if p.tilt > 1 else entrant.setting
            result = sample(
                p.base,
                reward=p.reward,
                method=entrant.method,
                particles=particles // getattr(entrant.method, "children", 1),
                tilt=p.tilt,
                steps=STEPS,
                groups=groups,
                **setting,
            )
            checks += _judge(f"{entrant.name} ({p.name})", result, p, entrant.allowance)
    return checks


def _judge(name: str, result: Result, p: Problem, allowance: float) -> list[Check]:
    weighting = "equal" if result.claim["evidence"] is None else "evidence"
    reward = result.expect(result.rewards, weighting=weighting)
    found = [reward, *(result.expect(_is_mode(p.base, k), weighting=weighting) for k in range(4))]
    off = [abs(f.value - float(share)) for f, share in zip(found[1:], p.mode_shares, strict=True)]
    worst = max(range(4), key=lambda k: off[k])
    checks = [
        judge(name, "E[r]", reward.value, p.expected_reward, reward.standard_error, allowance),
        judge(
            name,
            f"weight of mode {worst}",
            found[1 + worst].value,
            float(p.mode_shares[worst]),
            found[1 + worst].standard_error,
            allowance / 2,
        ),
    ]
    if result.claim["evidence"] is not None:
        # relative to the truth, so that the exponential neither over- nor underflows
        ratio = (result.log_evidence - p.log_z).exp()
        mean, error = float(ratio.mean()), float(ratio.std() / math.sqrt(result.groups))
        # log Z is the integral of E[r] over tilts from 0, and so are their errors
        allowed = allowance * max(1.0, p.tilt)
        checks.append(judge(name, "log Z", p.log_z + math.log(mean), p.log_z, error / mean, allowed))
    return checks


def _is_mode(base: GaussianMixture, k: int) -> Any:
    return lambda x: (base.mode_of(x) == k).double()
