"""Weighted samples of products against densities integrated on a grid, and the usual shortcut beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from itscale.experiments.compose_mixtures import Truth, errors, experts, grid, guided

import itscale
from itscale.methods import FKC, SMC
from itscale.process import ODE, SDE

SIZES = {"n": 20_000, "steps": 500}
FEWER = {"n": 5_000, "steps": 500}  # the shortcut is off by far more than this costs


def peak(vectors):
    return -((vectors[:, 0] - 0.5) ** 2) / 0.6


@dataclass(frozen=True)
class Case:
    """A target on a path, and how far off it may be.

    Attributes:
        tv: total variation allowed to weighted samples; two exact samples of this size are 0.013 to 0.018
            apart.
        shortcut: what the uncorrected sampler is off by at least; None where it cannot be told.
        log_z: error of the evidence allowed: four times its spread over seeds, and the bias of 500 steps.
    """

    name: str
    path: str
    powers: tuple[Any, Any]
    tv: float
    shortcut: float | None
    log_z: float = 0.06
    pair: Any = experts
    reward: Any = None
    process: Any = field(default_factory=SDE)
    method: Any = field(default_factory=FKC)
    ess: float = 0.0


CASES = (
    Case("power 3", "vp", (3, 0), 0.04, 0.08),
    Case("power 3, VE", "ve", (3, 0), 0.04, 0.08),
    Case("power 3, flow", "linear", (3, 0), 0.04, 0.08),
    Case("power 1/2", "vp", (0.5, 0), 0.03, 0.2),
    Case("geometric mean", "vp", (0.5, 0.5), 0.03, 0.04, method=FKC(ess_threshold=0.0), ess=0.9),
    Case("product", "vp", (1, 1), 0.04, 0.1),
    Case("product, flow", "linear", (1, 1), 0.04, 0.1),
    Case("squared product", "ve", (2, 2), 0.05, 0.15, log_z=0.15),
    Case("powers 1.5 and 0.7", "vp", (1.5, 0.7), 0.04, 0.08),
    Case("guidance 2", "vp", (2, -1), 0.03, 0.05, pair=guided),
    Case("guidance 4", "vp", (4, -3), 0.06, 0.12, pair=guided, log_z=0.2),
    Case("guidance 2, squared", "vp", (4, -2), 0.03, 0.07, pair=guided, log_z=0.15),
    Case("guidance 2, ODE of a flow", "linear", (2, -1), 0.05, 0.12, pair=guided, process=ODE()),
    Case(
        "guidance 2, another path", "linear", (2, -1), 0.03, 0.05, pair=guided, process=SDE(interpolant="vp")
    ),
    Case(
        "guidance 2, another noise",
        "linear",
        (2, -1),
        0.03,
        0.05,
        pair=guided,
        process=SDE(diffusion="sigma"),
    ),
    Case("a power that grows", "vp", (lambda t: 1 + 2 * t, 0), 0.04, 0.08),
    Case("tilt", "vp", (1, 0), 0.03, 0.25, reward=peak, log_z=0.1, method=FKC(ess_threshold=0.5)),
    Case("tilt, ODE of a flow", "linear", (1, 0), 0.03, 0.25, reward=peak, process=ODE(), log_z=0.1),
    Case("tilted product", "linear", (1, 1), 0.04, None, reward=peak, log_z=0.1),
    Case("tilted product by SMC", "linear", (1, 1), 0.04, None, reward=peak, log_z=0.1, method=SMC()),
)


def target(case: Case) -> Any:
    a, b = case.pair(case.path)
    product = a ** case.powers[0]
    if case.powers[1]:
        product = product * b ** case.powers[1]
    return product if case.reward is None else product.tilted(case.reward)


def truth(case: Case) -> Truth:
    a, b = case.pair(case.path)
    one, other = (p(1.0) if callable(p) else p for p in case.powers)

    def log_density(x):
        tilt = 0.0 if case.reward is None else case.reward(x)
        return one * a.log_prob(x) + other * b.log_prob(x) + tilt

    return Truth.of(log_density)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_weighted_samples_follow_the_product_and_the_shortcut_does_not(case):
    there, law = truth(case), target(case)
    off = errors(itscale.sample(law, method=case.method, process=case.process, grid=grid, **SIZES), there)
    assert off["tv"] < case.tv, off
    assert abs(off["log_z"]) < case.log_z, off
    assert off["ess"] >= case.ess, off
    if case.shortcut is not None:
        plain = law.corrected(gauge="none")
        off = errors(
            itscale.sample(plain, method="unguided", process=case.process, grid=grid, **FEWER), there
        )
        assert off["tv"] > case.shortcut, off
