"""DDSMC, SMCDiff, EnKG and RED-diff: exact laws of Gaussian data, independent formulas elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import itscale
from itscale.errors import ConfigError
from itscale.guides import Bridge, Context, View
from itscale.guides.ensemble import EnsembleKalman
from itscale.methods import DDSMC, EnKG, REDDiff, SMCDiff
from itscale.models import GaussianMixture
from itscale.operators import Dense, Exposure, Function, GaussianLikelihood, Mask, Observed
from itscale.operators.metrics import misfit
from itscale.process import Evaluation
from itscale.solvers.decoupled import DecoupledStep
from itscale.solvers.regularised import REDDiffStep
from tests.inverse.problems import LogUniformKappa, distance, draws, gmm_b, sample

Z = 4.89
MATRIX = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
Y, NOISE, STD = torch.tensor([0.8, -0.4], dtype=torch.float64), 0.4, 0.7
MEAN = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)


def isotropic() -> tuple[Any, GaussianLikelihood, Tensor, Tensor, float]:
    """N(m, c^2 I) in three dimensions, two numbers measured: model, likelihood, posterior, log p(y)."""
    model = GaussianMixture([1.0], MEAN[None], [STD], dtype=torch.float64, interpolant="linear")
    likelihood = GaussianLikelihood(Dense(MATRIX, (3,)), Y, NOISE)
    total = STD**2 * MATRIX @ MATRIX.T + NOISE**2 * torch.eye(2, dtype=torch.float64)
    gain = STD**2 * MATRIX.T @ total.inverse()
    e = Y - MATRIX @ MEAN
    cov = STD**2 * (torch.eye(3, dtype=torch.float64) - gain @ MATRIX)
    log_z = -(e @ total.inverse() @ e + torch.logdet(2 * math.pi * total)) / 2
    return model, likelihood, MEAN + gain @ e, cov, float(log_z)


def test_decoupled_moves_are_exact_for_gaussian_data_in_any_number_of_steps():
    """All weights equal and log p(y) exact, to rounding; the posterior's moments by 3000 draws."""
    model, likelihood, mean, cov, log_z = isotropic()
    method = DDSMC(particles=2, prior_std=STD)
    result = itscale.sample(model, reward=likelihood, method=method, steps=5, groups=1500, seed=3)
    assert float(result.log_weights.std(1).max()) < 1e-8
    torch.testing.assert_close(
        result.log_evidence, torch.full_like(result.log_evidence, log_z), rtol=0, atol=1e-8
    )
    x = result.samples.flatten(0, 1).double()
    assert bool(((x.mean(0) - mean).abs() < Z * (cov.diagonal() / 3000).sqrt()).all())
    spread = (torch.outer(cov.diagonal(), cov.diagonal()) + cov**2).sqrt() / 3000**0.5
    assert bool(((x.T.cov() - cov).abs() < Z * spread).all())


@pytest.mark.parametrize("eta", [0.6, 1.0])
def test_more_new_noise_costs_weights_and_keeps_the_law_of_gaussian_data(eta):
    """Z-hat and Z-hat times a weighted mean are unbiased, for two particles."""
    model, likelihood, mean, cov, log_z = isotropic()
    method = DDSMC(particles=2, eta=eta, prior_std=STD)
    result = itscale.sample(model, reward=likelihood, method=method, steps=5, groups=4000, seed=3)
    ratio = (result.log_evidence - log_z).exp()
    x = result.samples.double() - mean
    for estimate, truth in (
        (ratio, 1.0),
        (ratio * (result.weights * x[..., 0]).sum(1), 0.0),
        (ratio * (result.weights * x[..., 2]).sum(1), 0.0),
        (ratio * (result.weights * x[..., 1] ** 2).sum(1), float(cov[1, 1])),
        (ratio * (result.weights * x[..., 0] * x[..., 2]).sum(1), float(cov[0, 2])),
    ):
        assert abs(float(estimate.mean()) - truth) < Z * float(estimate.std()) / 4000**0.5
    assert float(result.log_weights.std(1).mean()) > 0.05


@dataclass(frozen=True, eq=False)
class Halved(DecoupledStep):
    """Mutant: data are drawn given the measurement and half of their spread forgotten."""

    def _factors(self, level):
        kept, on_data, spare = super()._factors(level)
        return kept, on_data, spare / 2


@dataclass(frozen=True, eq=False)
class Unpaid(DecoupledStep):
    """Mutant: the weight does not pay for the proposal."""

    def __call__(self, at, history, level, look, z):
        assert isinstance(level, int)
        move = super().__call__(at, history, level, look, z)
        _, o = self.measured(history[0])
        return replace(move, log_ratio=-self.log_predictive(o, level))


@pytest.mark.parametrize("mutant", [Halved, Unpaid])
def test_faulty_decoupled_moves_are_found_out(monkeypatch, mutant):
    model, likelihood, _, cov, _ = isotropic()
    monkeypatch.setattr("itscale.methods.ddsmc.DecoupledStep", mutant)
    method = DDSMC(particles=2, prior_std=STD)
    result = itscale.sample(model, reward=likelihood, method=method, steps=5, groups=1500, seed=3)
    x = result.samples.flatten(0, 1).double()
    is_level = float(result.log_weights.std(1).max()) < 1e-8
    spread = (torch.outer(cov.diagonal(), cov.diagonal()) + cov**2).sqrt() / 3000**0.5
    assert not (is_level and bool(((x.T.cov() - cov).abs() < Z * spread).all()))


@pytest.mark.slow
def test_decoupled_particles_reach_a_multimodal_posterior():
    it = gmm_b()
    result = sample(it, DDSMC(particles=16, prior_std=0.5), groups=200)
    found = distance(it, draws(result))
    assert found.sliced <= 0.15
    assert found.modes <= 0.22
    ratio = (result.log_evidence - it.truth.log_evidence).exp()
    assert abs(float(ratio.mean()) - 1) <= 0.1 + Z * float(ratio.std()) / len(ratio) ** 0.5


def test_reconstructions_by_the_ode_cost_what_the_plan_says():
    model, likelihood, *_ = isotropic()
    method = DDSMC(particles=3, prior_std=STD, ode_steps=4)
    result = itscale.sample(model, reward=likelihood, method=method, steps=6, groups=2)
    assert result.spent.nfe == [3 * (4 * 5 + 1)] * 2
    assert bool(result.log_evidence.isfinite().all())


COV = torch.tensor([[1.0, 0.8], [0.8, 1.5]], dtype=torch.float64)
SEEN, HIGH, LOW = 1.2, 20.0, 0.02


def correlated() -> Any:
    """Two correlated normals with their exact denoiser."""
    values, vectors = torch.linalg.eigh(COV)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        t = t.clamp_min(1e-6)[:, None].double()
        s2, v = ((1 - t) / t) ** 2, vectors.to(x.device)
        return ((x.double() / t) @ v * (values / (values + s2)) @ v.T).to(x)

    return itscale.models.wrap(denoise, predicts="denoised", interpolant="linear", event_shape=(2,))


def path_law(steps: int) -> tuple[float, float]:
    """Mean and variance of the second coordinate given the first, in the limit of many particles.

    Given the path of the first coordinate the second is normal, by the Kalman filter; its mean is linear in
    the path's noise r, which is followed along.
    """
    share = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    s = ((HIGH ** (1 / 7) + share * (LOW ** (1 / 7) - HIGH ** (1 / 7))) ** 7).tolist()
    eye = torch.eye(2, dtype=torch.float64)
    p, mean, var, cov, noise = (
        HIGH**2,
        0.0,
        0.0,
        0.0,
        HIGH**2,
    )  # of u | path; E, Var of its mean; Cov, Var of r
    for k in range(steps):
        d = COV @ (COV + s[k] ** 2 * eye).inverse()
        if k + 1 == steps:
            a, b = float(d[1, 0]), float(d[1, 1])
            return a * SEEN + b * mean, b * b * (p + var) + a * a * noise + 2 * a * b * cov
        q = (s[k + 1] / s[k]) ** 2
        m, v = d + q * (eye - d), s[k + 1] ** 2 * (1 - q)
        oo, ou, uo, uu = (float(m[i, j]) for i in (0, 1) for j in (0, 1))
        ahead, cross = ou * ou * p + v, ou * uu * p
        gain = cross / ahead
        # mean' = uo (y + r) + uu mean + gain (y + r' - oo (y + r) - ou mean), r' = q r + sqrt(s'^2 (1 - q)) e
        on_r, on_mean = uo - gain * oo, uu - gain * ou
        fresh = s[k + 1] ** 2 * (1 - q)
        on_path = on_r + gain * q
        mean, var, cov, noise = (
            (on_r + gain) * SEEN + on_mean * mean,
            on_mean**2 * var + on_path**2 * noise + 2 * on_mean * on_path * cov + gain**2 * fresh,
            q * (on_mean * cov + on_path * noise) + gain * fresh,
            q * q * noise + fresh,
        )
        p = uu * uu * p + v - gain * cross
    raise AssertionError


def test_replacement_with_weights_has_the_law_of_the_filter():
    """And this is the conditional law as steps are added: bias of the discretised chain alone."""
    model = correlated()
    likelihood = GaussianLikelihood(Mask(torch.tensor([True, False])), torch.tensor([SEEN]).double(), 0.1)
    count, steps = 1500, 30
    result = itscale.sample(
        model, reward=likelihood, method=SMCDiff(particles=48), steps=steps, groups=count, seed=5,
        grid=LogUniformKappa(HIGH, LOW), process=itscale.SDE(), solver="ancestral",
    )  # fmt: skip
    x = result.samples[:, 0].double()
    torch.testing.assert_close(x[:, 0], torch.full((count,), SEEN).double(), rtol=0, atol=1e-6)
    mean, variance = path_law(steps)
    # 48 particles: a relative bias of a few per cent beside the error of 1500 runs
    assert abs(float(x[:, 1].mean()) - mean) < 0.02 + Z * (variance / count) ** 0.5
    assert abs(float(x[:, 1].var()) / variance - 1) < 0.04 + Z * (2 / count) ** 0.5
    slope = float(COV[0, 1] / COV[0, 0])
    exact = slope * SEEN, float(COV[1, 1] - slope * COV[0, 1])
    gaps = [abs(path_law(n)[0] - exact[0]) + abs(path_law(n)[1] - exact[1]) for n in (30, 300, 3000)]
    assert gaps[1] < 0.2 * gaps[0]
    assert gaps[2] < 0.02 * exact[1]


def test_a_path_is_of_its_group_alone():
    model = correlated()
    likelihood = GaussianLikelihood(Mask(torch.tensor([True, False])), torch.tensor([SEEN]).double(), 0.1)
    settings = {"reward": likelihood, "method": SMCDiff(particles=4), "steps": 6, "seed": 2}
    whole = itscale.sample(model, groups=[0, 3, 7], solver="ancestral", **settings)
    alone = itscale.sample(model, groups=[3], solver="ancestral", **settings)
    torch.testing.assert_close(alone.samples[0], whole.samples[1], rtol=0, atol=1e-9)


def view(d: Tensor, group: Tensor, bank: Tensor) -> View:
    """A move from level 0 of a linear path at t = .5 whose factor on the denoised sample is .25, noise .5."""
    t = torch.tensor(0.5, dtype=torch.float64)
    at = Evaluation(d, t, "denoised", d, itscale.interpolants.Linear())
    half = torch.tensor([0.5, 1.0], dtype=torch.float64)
    bridge = Bridge(half[:1], half[:1] / 2, half[:1], half, 1 - half)
    context = Context(bank, torch.zeros(bank.shape[:2], dtype=torch.float64))
    return View(at, 0, None, group, bridge, lambda x: x, context)


@pytest.mark.parametrize("operator", [Dense(MATRIX, (3,)), Exposure((3,), 0.4)], ids=["linear", "clipped"])
def test_an_ensemble_is_pushed_by_its_covariances(operator):
    """In the space of measurements, as the formula is written, with covariances over each group."""
    g = torch.Generator().manual_seed(0)
    bank = torch.randn(2, 7, 3, generator=g, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5])
    y = torch.randn(operator.measurement_shape, generator=g, dtype=torch.float64)
    guide = EnsembleKalman(Observed(GaussianLikelihood(operator, y, 0.3), (1.0, 0.0)), strength=0.8)
    rows, group = torch.cat([bank[0, :2], bank[1, 3:6]]), torch.tensor([0, 0, 1, 1, 1])
    shift = guide(view(rows, group, bank))
    for i, row in enumerate(rows):
        d = bank[group[i]]
        both = torch.cat([d, operator(d)], dim=1).T.cov()
        n = d.shape[1]
        gain = both[:n, n:] @ (both[n:, n:] + 0.09 * torch.eye(len(y), dtype=torch.float64)).inverse()
        expected = 0.8 * 0.25 / 0.5 * gain @ (y - operator(row[None])[0])
        torch.testing.assert_close(shift[i], expected, rtol=1e-9, atol=1e-12)


def test_an_ensemble_follows_a_function_without_gradient():
    """Pixels counted by threshold: nothing to differentiate, and the misfit falls to a fraction."""
    model = GaussianMixture([1.0], torch.zeros(1, 4), [1.0], interpolant="linear")
    steps_up = Function(lambda x: (4 * x[:, :2]).round() / 4, (4,), is_differentiable=False)
    reward = GaussianLikelihood(steps_up, torch.tensor([1.25, -0.75]), 0.2)
    plain = itscale.sample(model, n=64, steps=20, seed=1).samples[0]
    result = itscale.sample(model, reward=reward, method=EnKG(particles=64), steps=20, seed=1)
    found = [float(misfit(x, reward).mean()) for x in (plain, result.samples[0])]
    assert found[1] < 0.2 * found[0]


def no_look(*_: Any) -> Evaluation:
    raise AssertionError


def test_the_optimised_point_takes_the_steps_of_adam():
    """Against torch's optimiser on the loss as it is published, noise level by noise level."""
    g = torch.Generator().manual_seed(0)
    operator, y = Dense(MATRIX, (3,)), torch.tensor([0.8, -0.4], dtype=torch.float64)
    observed = Observed(GaussianLikelihood(operator, y, 0.4), (1.0, 0.0))
    t = torch.tensor([0.2, 0.4, 0.6, 0.8, 0.95, 1.0], dtype=torch.float64)
    kernel = REDDiffStep(
        observed, tuple(t.tolist()), tuple((1 - t).tolist()), decode=lambda x: x, weight=0.3, rate=0.05
    )

    def denoise(x: Tensor, level: int) -> Tensor:
        s2 = ((1 - t[level]) / t[level]) ** 2
        return (x / t[level]).tanh() / (1 + s2)

    x = torch.randn(4, 3, generator=g, dtype=torch.float64)
    mu = denoise(x, 0).clone().requires_grad_()
    adam = torch.optim.Adam([mu], lr=0.05, betas=(0.9, 0.99))
    memory: tuple[Tensor, ...] = ()
    for level in range(5):
        d = denoise(x, level)
        at = Evaluation(x, t[level], "denoised", d, itscale.interpolants.Linear())
        z = None if level == 4 else torch.randn(x.shape, generator=g, dtype=torch.float64)
        move = kernel(at, memory, level, no_look, z)
        s = (1 - t[level]) / t[level]
        n, e = ((x - t[level] * v) / (1 - t[level]) for v in (d, mu.detach()))
        loss = (y - operator(mu)).square().sum() / (2 * 0.16) + 0.3 * s * ((n - e) * mu).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert move.memory is not None
        memory = move.memory
        torch.testing.assert_close(memory[0], mu.detach(), rtol=1e-9, atol=1e-10)
        x = mu.detach() if z is None else t[level + 1] * mu.detach() + (1 - t[level + 1]) * z
        torch.testing.assert_close(move.x, x, rtol=1e-9, atol=1e-10)


def test_an_optimised_point_is_no_draw_of_the_posterior():
    """A negative control: it must miss the weights of the modes, and vary too little."""
    it = gmm_b()
    found = distance(it, draws(sample(it, REDDiff(particles=1), groups=100)))
    assert found.modes > 0.5
    assert found.variance < 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDSMC(eta=1.5), "eta"),
        (lambda: DDSMC(prior_std=0.0), "prior_std"),
        (lambda: DDSMC(ode_steps=0), "ode_steps"),
        (lambda: SMCDiff(scheme="systemic"), "scheme"),
        (lambda: EnKG(particles=1), "particles"),
        (lambda: EnKG(strength=0.0), "strength"),
        (lambda: EnKG(cap=-1.0), "cap"),
        (lambda: REDDiff(rate=0.0), "rate"),
        (lambda: REDDiff(weight=-1.0), "weight"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_replacement_without_weights_is_found_out(monkeypatch):
    """A mutant that never weighs the particles: the mean stays short of the filter's."""
    monkeypatch.setattr(SMCDiff, "_ahead", lambda self, engine, p, path: p)
    likelihood = GaussianLikelihood(Mask(torch.tensor([True, False])), torch.tensor([SEEN]).double(), 0.1)
    result = itscale.sample(
        correlated(), reward=likelihood, method=SMCDiff(particles=48), steps=30, groups=500, seed=5,
        grid=LogUniformKappa(HIGH, LOW), process=itscale.SDE(), solver="ancestral",
    )  # fmt: skip
    x = result.samples[:, 0, 1].double()
    mean, variance = path_law(30)
    far = abs(float(x.mean()) - mean) > 0.02 + Z * (variance / 500) ** 0.5
    assert far or abs(float(x.var()) / variance - 1) > 0.04 + Z * (2 / 500) ** 0.5
