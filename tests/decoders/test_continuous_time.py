"""Correctors in continuous time, by integrating the equation of the weighted mass of all states."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

import itscale
from itscale import compose
from itscale.decoders import AncestralTokens, Jumps
from itscale.decoders.jumps import JumpRates
from itscale.models import Enumerable
from itscale.process import Masking, TokenProcess
from tests.decoders.laws import propagate
from tests.decoders.toy import other, toy, tv


def small(seed: int) -> Enumerable:
    """Three positions of three tokens."""
    generator = torch.Generator().manual_seed(seed)
    return Enumerable(1.2 * torch.randn(3, 3, 3, dtype=torch.float64, generator=generator))


A, B = small(1), small(2)
LAWS = {
    "annealed": (A**2.0, [(A, 2.0)]),
    "flattened": (A**0.5, [(A, 0.5)]),
    "product": (A * B, [(A, 1.0), (B, 1.0)]),
    "geometric mean": (compose.geometric_mean(A, B), [(A, 0.5), (B, 0.5)]),
    "guidance": (compose.guidance(A, B, 2.0), [(A, 2.0), (B, -1.0)]),
}


def carried(name: str, power: float, weighted: bool, values: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mass of the 64 states at a clean share of 0.982, and the target there, both normalised.

    With ``values`` of states, jumps are guided by ``exp(a (v(y) - v(x)))`` and the target tilted by
    ``exp(a v)``: the clean share is the tilt that has been reached.
    """
    law, terms = LAWS[name]
    rates, states = JumpRates(power), A.states
    at = TokenProcess(law, Masking()).evaluate(states, torch.tensor(0.0))
    hidden = states == 3
    log_factor, log_mass = at.every
    factor = (log_factor + log_mass[..., None]).exp() * hidden[..., None]
    place = 4 ** torch.arange(2, -1, -1)
    number = torch.arange(64)
    to = number[:, None, None] - (3 - torch.arange(3)) * place[:, None]
    visible = sum(b * m.log_prob(states) for m, b in terms)
    assert isinstance(visible, Tensor)
    n = hidden.sum(1)

    def slope(logit: Tensor, mass: Tensor) -> Tensor:
        a = torch.sigmoid(logit)
        clock = a * (1 - a)  # da / dlogit
        rate = rates.kappa(float(a)) * factor * clock
        growth = rates.growth(log_mass.exp(), hidden, float(a)) * clock
        if values is not None:
            guided = rate * (a * (values[to.clamp(min=0)] - values[:, None, None])).exp() * hidden[..., None]
            growth = growth + values * clock + (guided - rate).sum((1, 2))
            rate = guided
        flow = rate * mass[:, None, None]
        gained = torch.zeros_like(mass).index_add_(0, to.clamp(min=0).flatten(), flow.flatten())
        return gained - flow.sum((1, 2)) + (growth * mass if weighted else 0.0)

    mass = torch.zeros(64, dtype=torch.float64)
    mass[-1] = 1.0
    logits = torch.linspace(-40.0, 4.0, 2201, dtype=torch.float64)
    for low, high in pairwise(logits):
        h, middle = high - low, (low + high) / 2
        k1 = slope(low, mass)
        k2 = slope(middle, mass + h / 2 * k1)
        k3 = slope(middle, mass + h / 2 * k2)
        k4 = slope(high, mass + h * k3)
        mass = mass + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    a = torch.sigmoid(logits[-1])
    target = power * (n * torch.log1p(-a) + (3 - n) * a.log()) + visible
    if values is not None:
        target = target + a * values
    return mass / mass.sum(), torch.softmax(target, 0)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("power", [1.0, *(pytest.param(p, marks=pytest.mark.slow) for p in (2.0, 0.5))])
def test_weighted_mass_follows_the_targets_and_unweighted_mass_does_not(name, power):
    found, target = carried(name, power, True)
    assert tv(found, target) < 3e-7
    if name in ("annealed", "guidance"):
        plain, _ = carried(name, power, False)
        assert tv(plain, target) > 0.02


@pytest.mark.slow
def test_guided_rates_need_what_all_successors_say():
    values = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    one = "annealed one"
    LAWS[one] = (A**1.0, [(A, 1.0)])
    found, target = carried(one, 1.0, True, values)
    assert tv(found, target) < 3e-7
    plain, _ = carried(one, 1.0, False, values)
    assert tv(plain, target) > 0.02
    del LAWS[one]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.7])
def test_a_step_integrates_the_rates(power):
    """One position of mass S: what stays and what jumps from a to b, by small steps of the equation."""
    rates, mass, a, b = JumpRates(power), 1.7, 0.2, 0.8
    clock = torch.linspace(a, b, 20_001, dtype=torch.float64)
    kappa = torch.tensor([rates.kappa(float(v)) for v in clock], dtype=torch.float64)
    decay = kappa * mass - (kappa * mass - power / (1 - clock))  # leaving, less growing
    steps = torch.diff(clock)
    spent = torch.cat([torch.zeros(1).double(), ((decay[1:] + decay[:-1]) / 2 * steps).cumsum(0)])
    stay = (-spent).exp()
    jump = torch.trapezoid(kappa * stay, clock)
    assert rates.step(a, b) == pytest.approx((float(stay[-1]), float(jump)), rel=1e-7)


@pytest.mark.parametrize("power", [0.7, 1.0, 2.0])
def test_held_rates_converge_in_law_and_normaliser(power):
    model = toy().model
    law, log_z = model.power([2.0])
    off = []
    for steps in (8, 16, 32):
        mass = propagate(model**2.0, Jumps(power=power), steps, weighted=True)
        off.append((tv(mass / mass.sum(), law.law), abs(float(mass.sum().log()) - log_z)))
    for finer, coarser in zip(off[1:], off, strict=False):
        assert finer[0] < 0.7 * coarser[0]
        assert finer[1] < 0.7 * coarser[1]


def test_without_exponents_held_rates_are_ancestral_sampling():
    model = toy().model
    torch.testing.assert_close(propagate(model, Jumps(), 8), propagate(model, AncestralTokens(), 8))
    powered = [propagate(model**2.0, d, 8, weighted=True) for d in (Jumps(), AncestralTokens())]
    torch.testing.assert_close(*powered)
    torch.testing.assert_close(
        propagate(model, Jumps(), 8, weighted=True), propagate(model, AncestralTokens(), 8)
    )


def test_a_run_weighs_by_held_rates():
    p, q = toy().model, other()
    steps = 6
    mass = propagate(p**0.7 * q**0.6, Jumps(power=1.3), steps, weighted=True)
    rewards, log_z = toy().rewards, float(mass.sum().log())
    mean = float(mass @ rewards / mass.sum())
    result = itscale.sample(
        p**0.7 * q**0.6,
        reward=toy().reward,
        method=itscale.methods.FKC(particles=64),
        tilt=0.0,
        solver=Jumps(power=1.3),
        steps=steps,
        groups=200,
    )
    evidence = (result.log_evidence - log_z).exp()
    per_group = result.expect(result.rewards).per_group
    for estimate, expected in ((evidence, 1.0), (evidence * (per_group - mean), 0.0)):
        assert abs(float(estimate.mean()) - expected) < 4.89 * float(estimate.std()) / 200**0.5
