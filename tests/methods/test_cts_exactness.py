"""Every part of calibrated twisted SMC leaves the evidence unbiased, and faults of each kind do not.

A Gaussian in two dimensions, tilted along a line: the discretised sampler's law and evidence are known to
rounding. ``Z-hat / Z`` has mean 1 for any number of particles, any exponents, any push and any schedule.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch

import itscale
from itscale.engine import Worker
from itscale.methods import TwistedSMC
from itscale.preparation import prepare
from tests.methods.mutants import Tampered
from tests.solvers.drive import affine_law

STEPS, RUNS, PARTICLES = 20, 2000, 16
STD, MEANS, DIRECTION = 0.8, (0.3, -0.2), (1.5, 0.5)
TIMES = tuple(k / STEPS for k in range(STEPS))
SPREAD = tuple(1 / (1 / STD**2 + t**2 / (1 - t) ** 2) for t in TIMES)
# any numbers in [0, 1.2] will do
EXPONENTS = (
    0.1,
    0.9,
    0.3,
    1.2,
    0.6,
    0.0,
    0.8,
    0.5,
    1.1,
    0.2,
    0.7,
    1.0,
    0.4,
    0.9,
    1.2,
    0.6,
    0.3,
    1.1,
    0.8,
    1.0,
)
HALF = tuple(1.5 if 5 <= k < 10 else 0.8 for k in range(STEPS))
GUIDES = ("none", "population", "regression", "denoised")
Z = 4.89


class WrongGradient(torch.autograd.Function):
    """The reward's value, with a gradient of norm 1 that points elsewhere."""

    @staticmethod
    def forward(ctx, x):
        return x @ torch.tensor(DIRECTION, dtype=x.dtype)

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad[:, None] * torch.tensor([-0.6, 0.8], dtype=grad.dtype)


@itscale.reward(name="line", modality="vector", differentiable=True)
def line(vectors):
    return WrongGradient.apply(vectors)


def model():
    return itscale.models.GaussianMixture([1.0], [MEANS], [STD])


def log_z() -> float:
    """Of exp(b.x) under the discretised law, coordinate by coordinate."""
    total = 0.0
    for mean, b in zip(MEANS, DIRECTION, strict=True):
        one = itscale.models.GaussianMixture([1.0], [[mean]], [STD])
        setup = prepare(one, process=itscale.SDE(), solver="ancestral", steps=STEPS)
        law = affine_law(setup.process, "ancestral", setup.times, 1.0)
        total += b * law.mean + b**2 * law.variance / 2
    return total


def ratio(method: TwistedSMC, runs: int = RUNS) -> tuple[float, float]:
    """Mean of Z-hat / Z over runs, with its standard error."""
    result = itscale.sample(
        model(), reward=line, method=method, groups=runs, steps=STEPS, solver="ancestral", seed=3
    )
    found = (result.log_evidence - log_z()).exp()
    return float(found.mean()), float(found.std()) / math.sqrt(runs)


def settings(guide: str = "none", schedule: tuple[float, ...] | None = None, **more: object) -> dict:
    common = {"particles": PARTICLES, "ess_threshold": 0.9, "tempering": EXPONENTS, "cap": 1.0}
    return {**common, "guide": guide, "spread": SPREAD, "schedule": schedule, **more}


def is_unbiased(found: tuple[float, float]) -> bool:
    return abs(found[0] - 1) <= Z * found[1]


@pytest.mark.parametrize(
    ("guide", "schedule"),
    list(itertools.product(GUIDES, (None, HALF))),
    ids=lambda v: "half" if v == HALF else v,
)
def test_the_evidence_is_unbiased(guide, schedule):
    """Standard errors are 0.004 to 0.011, so a bias of 0.05 is seen."""
    found = ratio(TwistedSMC(**settings(guide, schedule)))
    assert is_unbiased(found)
    assert found[1] < 0.012


@dataclass(frozen=True, kw_only=True)
class Faulty(TwistedSMC):
    """A method on an engine with verbs of its own."""

    def init(self, engine, plan):
        return super().init(self.tamper(engine), plan)

    def step(self, engine, state):
        return super().step(self.tamper(engine), state)

    def tamper(self, engine):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class DividedByTheNewNumber(Faulty):
    """The mean weight over the particles that resampling leaves, not over those that it saw."""

    def tamper(self, engine):
        def resample(engine, p, rule, scheme, n):
            done = engine.resample(p, rule, scheme, n)
            return replace(done, log_evidence=done.log_evidence + math.log(p.n / done.n))

        return Tampered(engine, resample=resample)


@dataclass(frozen=True, kw_only=True)
class ContextAfterResampling(Faulty):
    """Learns from the particles that were chosen: as good, for they too exist before the move."""

    def tamper(self, engine):
        return Tampered(engine, propose=lambda engine, p, guide, context: engine.propose(p, guide=guide))


@dataclass(frozen=True, kw_only=True)
class EndsBelowOne(Faulty):
    """The last exponent is not 1; the terminal factor makes up for it."""

    def _exponent(self, engine, state, p):
        return 0.7 * super()._exponent(engine, state, p)

    def tamper(self, engine):
        return engine


@pytest.mark.parametrize(
    "allowed",
    [
        ContextAfterResampling(**settings("population")),
        EndsBelowOne(**settings()),
        TwistedSMC(**settings("denoised", cap=None, spread=tuple(3 * c for c in SPREAD))),
    ],
    ids=["context after resampling", "last exponent below one", "wrong spread, no cap"],
)
def test_what_only_costs_particles_leaves_the_evidence_unbiased(allowed):
    assert is_unbiased(ratio(allowed))


def test_the_evidence_of_a_wrong_mean_is_biased():
    assert not is_unbiased(ratio(DividedByTheNewNumber(**settings("population", HALF))))


@pytest.mark.parametrize("fault", ["half square dropped", "noise seen", "wrong sign", "no ratio"])
@pytest.mark.parametrize("guide", ["population", "regression", "denoised"])
def test_a_wrong_ratio_of_densities_biases_the_evidence(guide, fault, monkeypatch):
    honest = Worker._noise

    def noise(self, kernel, here, level, at, chosen, guided, gradient):
        plain, _ = honest(self, kernel, here, level, at, chosen, None, gradient)
        moved, change = honest(self, kernel, here, level, at, chosen, guided, gradient)
        if change is None:
            return moved, change
        d = (moved - plain).double().flatten(1)
        z = plain.double().flatten(1)
        if fault == "half square dropped":
            return moved, change + d.square().sum(1) / 2
        if fault == "wrong sign":
            return moved, -(-d * z + d.square() / 2).sum(1)
        if fault == "no ratio":
            return moved, torch.zeros_like(change)
        d = d * z.sign()  # a shift that depends on the noise that it shifts
        return (z + d).to(plain).reshape(plain.shape), -(d * z + d.square() / 2).sum(1)

    monkeypatch.setattr(Worker, "_noise", noise)
    assert not is_unbiased(ratio(TwistedSMC(**settings(guide)), 1000))
