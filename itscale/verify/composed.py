"""Compositions: products, powers, guidance and mixtures of two experts against integrals on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from itscale.methods import FKC, SMC
from itscale.models.algebra import Ramp
from itscale.models.analytic import GaussianMixture
from itscale.models.superposition import Mixture
from itscale.process import SDE
from itscale.sampling import sample
from itscale.scoring import Reward
from itscale.verify.check import Check, judge

STEPS = 100
ALLOWANCE = 0.03
"""What 100 steps cost in means, shares and log Z: under 0.02, against 800 steps."""


@dataclass(frozen=True)
class Composed:
    """A law of two experts, with its log-density up to a constant and how it is sampled."""

    name: str
    law: Any
    log_density: Callable[[Tensor], Tensor]
    setting: dict[str, Any] = field(default_factory=dict)
    allowance: float = ALLOWANCE


def expert(weights: list[float], means: list[float], stds: list[float]) -> GaussianMixture:
    return GaussianMixture(weights, [[m] for m in means], stds, interpolant="vp", dtype=torch.float64)


def late(path: Any, steps: int, t_start: float) -> Tensor:
    """Equal steps, the last look so late that the jump after it changes nothing."""
    times = torch.linspace(t_start, 0.9999, steps, dtype=torch.float64)
    return torch.cat([times, torch.ones(1, dtype=torch.float64)])


def reward_of(samples: Tensor) -> Tensor:
    return -((samples[:, 0] - 0.5) ** 2) / 2


def problems() -> list[Composed]:
    """The laws that are checked; the first two are the quick ones."""
    a, b = expert([0.3, 0.7], [-1.5, 1.0], [0.5, 0.35]), expert([0.6, 0.4], [-1.2, 0.3], [0.4, 0.6])
    u, c = expert([0.5, 0.5], [-1.5, 1.2], [0.6, 0.5]), expert([0.1, 0.9], [-1.5, 1.2], [0.6, 0.5])
    reward = Reward.of(reward_of, name="peak", modality="vector")

    def product(p: float, q: float, first: Any = a, second: Any = b) -> Callable[[Tensor], Tensor]:
        return lambda x: p * first.log_prob(x) + q * second.log_prob(x)

    steady = {"solver": "euler-maruyama", "steps": 20, "process": SDE(diffusion=1.5), "grid": late}
    return [
        Composed("product", a * b, product(1, 1)),
        Composed("guidance 3", (c / u) ** 3 * u, product(3, -2, c, u)),
        Composed("power 2", a**2, product(2, 0)),
        Composed("power 2, fitted gauge", (a**2).corrected(gauge="adaptive"), product(2, 0)),
        Composed("geometric mean", (a * b) ** 0.5, product(0.5, 0.5)),
        Composed(
            "power that grows, followed densities", (a ** Ramp(1, 2)).corrected(density="ito"), product(2, 0)
        ),
        Composed(
            "product, kernel weights, 20 steps",
            (a * b).corrected(weights="kernel"),
            product(1, 1),
            steady,
            0.0,
        ),
        Composed(
            "product, Langevin moves",
            (a * b).corrected(weights="kernel"),
            product(1, 1),
            {**steady, "method": FKC(corrections=1, adjusted=True)},
            0.0,
        ),
        Composed(
            "tilted product by smc",
            a * b,
            lambda x: product(1, 1)(x) + reward_of(x),
            {"reward": reward, "method": SMC()},
        ),
        Composed(
            "mixture",
            Mixture((a, b), (3.0, 1.0)),
            lambda x: torch.logaddexp(a.log_prob(x) + math.log(0.75), b.log_prob(x) + math.log(0.25)),
            {"method": "unguided", "process": SDE()},
        ),
    ]


def composed_laws(particles: int, groups: int, quick: bool) -> list[Check]:
    """Check mean, share above 0 and log Z of every law."""
    checks = []
    for p in problems()[: 2 if quick else None]:
        found = sample(
            p.law,
            **{"method": FKC(), "steps": STEPS, "n": particles, "groups": groups, "seed": 1, **p.setting},
        )
        x = torch.linspace(-8, 8, 40_001, dtype=torch.float64)[:, None]
        log_p = p.log_density(x)
        mass = torch.softmax(log_p, 0)
        weighting = "equal" if found.claim["evidence"] is None else "evidence"
        for quantity, of in (
            ("mean", lambda s: s[:, 0].double()),
            ("share above 0", lambda s: (s[:, 0] > 0).double()),
        ):
            value = found.expect(of, weighting=weighting)
            truth = float(mass @ of(x))
            checks.append(judge(p.name, quantity, value.value, truth, value.standard_error, p.allowance))
        if found.claim["evidence"] is not None:
            log_z = float(log_p.logsumexp(0)) + math.log(float(x[1, 0] - x[0, 0]))
            ratio = (found.log_evidence - log_z).exp()
            mean, error = float(ratio.mean()), float(ratio.std()) / math.sqrt(groups)
            checks.append(judge(p.name, "log Z", log_z + math.log(mean), log_z, error / mean, p.allowance))
    return checks
