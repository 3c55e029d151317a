"""Values against closed forms: the soft value of a mixture, the end of a Gaussian's ODE, a map's tilt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

import itscale
from itscale import grids
from itscale.methods import TwistedSMC
from itscale.process import SDE, ContinuousProcess
from itscale.values import FlowMap, LookAhead, ManySample, Sight, certainty_equivalent
from tests.oracles import DIRECTION, mixture_2d
from tests.solvers.drive import gaussian, looker

MEAN, STD = 0.7, 0.5
STEPS = 10


def sight(process, times, x, level, seed=0):
    """What a forecast sees, with noise of a plain generator."""
    generator = torch.Generator().manual_seed(seed)

    def normals(count, common):
        rows = 1 if common else len(x)
        z = torch.randn(rows, count, *x.shape[1:], dtype=x.dtype, generator=generator)
        return z.expand(len(x), *z.shape[1:])

    def call(network, states, rows):
        return network(states, None)

    return Sight(process.evaluate(x, times[level]), level, looker(process, times), normals, call)


def planar(path="linear", interpolant=None):
    process = ContinuousProcess.of(mixture_2d(path), SDE(interpolant=interpolant))
    times = grids.uniform(process.interpolant, STEPS, process.t_start)
    generator = torch.Generator().manual_seed(1)
    return process, times, 1.5 * torch.randn(6, 2, dtype=torch.float64, generator=generator)


def soft_value(process, t, x, tilt):
    """log E[exp(tilt a.x_1) | x_t = x], from the posterior mixture."""
    model, path = process.model, process.interpolant
    where = float(model.interpolant.t_of_kappa(path.kappa(t)))
    scale = float(path.sigma(t) / model.interpolant.sigma(where))
    at = torch.full((len(x),), where, dtype=torch.float64)
    log_w, means, variances = model.posterior(x / scale, at)
    a = torch.tensor(DIRECTION, dtype=torch.float64)
    return torch.logsumexp(log_w + tilt * means @ a + tilt**2 * (a @ a) * variances / 2, -1)


def judged(ends, tilt):
    rewards = ends @ torch.tensor(DIRECTION, dtype=torch.float64)
    return rewards, certainty_equivalent(rewards, torch.ones_like(rewards, dtype=torch.bool), tilt)


@pytest.mark.parametrize(("path", "interpolant"), [("linear", None), ("vp", None), ("linear", "vp")])
@pytest.mark.parametrize("level", [0, 4, 8])
@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_many_samples_come_to_the_soft_value(path, interpolant, level, tilt):
    """4000 draws of 48 inner steps: five standard errors, and 0.02 for the inner steps."""
    process, times, x = planar(path, interpolant)
    forecast = ManySample(samples=4000, inner_steps=48).build(process, times)
    rewards, found = judged(forecast(sight(process, times, x, level)), tilt)
    if tilt == 0:
        exact = process.evaluate(x, times[level]).denoised @ torch.tensor(DIRECTION, dtype=torch.float64)
        error = rewards.std(dim=1) / 4000**0.5
    else:
        exact = soft_value(process, float(times[level]), x, tilt) / tilt
        error = (tilt * rewards - tilt * found[:, None]).exp().std(dim=1) / 4000**0.5 / tilt
    assert ((found - exact).abs() <= 5 * error + 0.02).all()
    if tilt and level == 4:  # the reward of the mean is another number, and the check would see it
        plain = process.evaluate(x, times[level]).denoised @ torch.tensor(DIRECTION, dtype=torch.float64)
        assert ((plain - exact).abs() > 5 * error + 0.02).any()
        spread = rewards.mean(dim=1, keepdim=True) + 2**0.5 * (rewards - rewards.mean(dim=1, keepdim=True))
        _, wrong = certain(spread, tilt)
        assert ((wrong - exact).abs() > 5 * error + 0.02).any()


def certain(rewards, tilt):
    return rewards, certainty_equivalent(rewards, torch.ones_like(rewards, dtype=torch.bool), tilt)


def posterior_variance(t):
    return (STD * (1 - t)) ** 2 / ((t * STD) ** 2 + (1 - t) ** 2)


def on_the_line():
    process = ContinuousProcess.of(gaussian(MEAN, STD), SDE())
    times = grids.uniform(process.interpolant, STEPS, 0.0)
    return process, times, torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]


def test_gaussian_draws_of_the_posterior_variance_are_exact_for_one_gaussian():
    process, times, x = on_the_line()
    spread = tuple(posterior_variance(t) for t in times[:-1].tolist())
    forecast = ManySample(samples=20_000, spread=spread).build(process, times)
    ends = forecast(sight(process, times, x, 3))[..., 0]
    found = certainty_equivalent(ends, torch.ones_like(ends, dtype=torch.bool), 2.0)
    exact = process.evaluate(x, times[3]).denoised[:, 0] + 2.0 * spread[3] / 2
    error = (2.0 * (ends - found[:, None])).exp().std(dim=1) / 2.0 / 20_000**0.5
    assert ((found - exact).abs() <= 5 * error).all()
    assert (error < 0.02).all()


def test_common_normals_come_in_pairs_and_leave_no_noise_between_rows():
    process, times, x = on_the_line()
    forecast = ManySample(samples=5, spread=(0.3,) * STEPS, common=True).build(process, times)
    ends = forecast(sight(process, times, x, 3))[..., 0]
    draws = ends - process.evaluate(x, times[3]).denoised
    assert torch.allclose(draws, draws[:1].expand_as(draws), rtol=0, atol=1e-12)
    torch.testing.assert_close(draws[:, 3:], -draws[:, :2], rtol=0, atol=1e-12)


def flow_end(x, t):
    """Where the ODE of one Gaussian takes a state."""
    return MEAN + STD * (x - t * MEAN) / math.sqrt((t * STD) ** 2 + (1 - t) ** 2)


@pytest.mark.parametrize("level", [0, 3, 8])
def test_a_long_look_ahead_ends_where_the_ode_does(level):
    process, times, x = on_the_line()
    t = float(times[level])
    errors = []
    for steps in (50, 100):
        end = LookAhead(steps=steps).build(process, times)(sight(process, times, x, level))
        assert end.shape == (5, 1, 1)
        errors.append(float((end[:, 0] - flow_end(x, t)).abs().max()))
    assert errors[1] <= 1e-3
    assert errors[1] < errors[0] / 2.5  # order 2
    one = LookAhead(steps=2).build(process, times)(sight(process, times, x, level))[:, 0]
    denoised = process.evaluate(x, times[level]).denoised
    assert float((one - flow_end(x, t)).abs().max()) < float((denoised - flow_end(x, t)).abs().max())


def test_a_flow_map_is_asked_at_the_state_and_its_time():
    process, times, x = on_the_line()
    end = FlowMap(flow_end, looks=0).build(process, times)(sight(process, times, x, 4))
    torch.testing.assert_close(end[:, 0], flow_end(x, float(times[4])))


@dataclass(frozen=True)
class Rate:
    """Law of the rate form of flow-map tilting on one Gaussian: N(mean, variance) and the evidence."""

    mean: float
    variance: float
    log_z: float


def rate_form(steps: int, tilt: float) -> Rate:
    """Euler steps of drift u + g^2/2 (score + grad rho), weights rho' dt, with rho = t tilt X_(t,1)(x)."""
    process = ContinuousProcess.of(gaussian(MEAN, STD), SDE(diffusion="sigma"))
    law, dt = Rate(0.0, 1.0, 0.0), 1 / steps
    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    for k in range(steps):
        t = k * dt
        at = process.evaluate(points, torch.tensor(t, dtype=torch.float64))
        low, high = process.drift(at)[:, 0].tolist()
        start = flow_end(0.0, t)
        along = flow_end(1.0, t) - start
        g = process.g(t)
        push = low + g**2 / 2 * t * tilt * along
        mean, variance = law.mean, law.variance
        factor = 1 + dt * (high - low)
        gain = (
            dt * tilt * along
        )  # the weight exp(dt tilt (start + along x)) moves the mean by gain * variance
        log_z = law.log_z + dt * tilt * start + gain * mean + gain**2 * variance / 2
        mean = mean + gain * variance
        law = Rate(factor * mean + dt * push, factor**2 * variance + g**2 * dt, log_z)
    return law


def test_the_rate_form_and_the_telescoping_form_of_flow_map_tilting_agree_to_the_step():
    tilt = 1.5
    truth = Rate(MEAN + tilt * STD**2, STD**2, tilt * MEAN + tilt**2 * STD**2 / 2)
    errors = []
    for steps in (100, 200, 400):
        found = rate_form(steps, tilt)
        errors.append(max(abs(found.mean - truth.mean), abs(found.log_z - truth.log_z)))
    assert errors[-1] <= 0.02
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.3)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.3)
    result = itscale.sample(
        gaussian(MEAN, STD),
        reward=lambda vectors: vectors[:, 0],
        method=TwistedSMC(particles=64, tempering=tuple((k + 1) / 50 for k in range(50))),
        value=FlowMap(flow_end, looks=0),
        process=SDE(diffusion="sigma"),
        steps=50,
        tilt=tilt,
        groups=200,
    )
    ratio = (result.log_evidence - truth.log_z).exp()
    # five standard errors, and 0.02 for 50 steps of a second-order solver
    assert abs(float(ratio.mean()) - 1) <= 5 * float(ratio.std()) / 200**0.5 + 0.02
    found = result.expect(result.rewards, weighting="evidence")
    assert abs(found.value - truth.mean) <= 5 * found.standard_error + 0.02


def test_the_exact_map_leaves_less_to_chance_than_a_wrong_one():
    """Weights of any map have the same mean; those of a map against the reward vary more."""

    def spread(value):
        result = itscale.sample(
            gaussian(MEAN, STD),
            reward=lambda vectors: vectors[:, 0],
            method=TwistedSMC(particles=16),
            value=value,
            steps=10,
            tilt=2.0,
            groups=100,
        )
        return float(result.log_evidence.std())

    assert 2 * spread(FlowMap(flow_end, looks=0)) < spread(FlowMap(lambda x, t: -2 * x, looks=0))


def test_draws_of_a_broken_flow_are_noticed():
    """The check of the soft value refuses draws that forget the state."""
    process, times, x = planar()
    forecast = ManySample(samples=2000, inner_steps=32).build(process, times)
    flows = tuple(replace(f, alpha=0.5 * f.alpha) for f in forecast.flows)
    broken = replace(forecast, flows=flows)
    _, found = judged(broken(sight(process, times, x, 4)), 0.5)
    exact = soft_value(process, float(times[4]), x, 0.5) / 0.5
    assert ((found - exact).abs() > 0.2).any()
