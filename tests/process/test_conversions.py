"""Every path run along every other, the optimal coefficient, marginals on the line, mean-reverting models."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import itscale
from itscale import grids, models
from itscale.errors import ConfigError
from itscale.interpolants import EDM, VE, VP, Cosine, Linear, OrnsteinUhlenbeck, Table, Trigonometric
from itscale.models import GaussianMixture
from itscale.process import ODE, SDE, ContinuousProcess, Epsilon, Evaluation, Natural
from itscale.solvers import DDIM, Ancestral, EulerMaruyama
from tests.oracles import mixture_1d, mixture_2d, quantile_w1
from tests.solvers.drive import drive

PATHS = [
    Linear(),
    Trigonometric(),
    VP(),
    Cosine(),
    VE(),
    EDM(),
    Table.linear(),
    Table.scaled_linear(),
    OrnsteinUhlenbeck(),
]


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(PATHS, 2)), ids=repr)
def test_a_model_of_one_path_is_right_on_every_other(source, target):
    """Velocity and denoised sample are those of a model trained on the target, wherever both are defined."""
    process = ContinuousProcess.of(mixture_2d(source), SDE(interpolant=target))
    truth = mixture_2d(target)
    generator = torch.Generator().manual_seed(8)
    for kappa in (0.05, 0.5, 4.0):
        t = target.t_of_kappa(kappa)
        scale = float(torch.hypot(2 * target.alpha(t), target.sigma(t)))
        x = scale * torch.randn(30, 2, dtype=torch.float64, generator=generator)
        at = process.evaluate(x, t)
        torch.testing.assert_close(at.denoised, truth.denoised(x, t), rtol=1e-8, atol=1e-8)
        size = float(target.d_alpha(t).abs() + target.d_sigma(t).abs())
        torch.testing.assert_close(at.velocity, truth.velocity(x, t), rtol=1e-8, atol=1e-8 * max(1.0, size))


@pytest.mark.parametrize("eta", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("path", PATHS[:6], ids=repr)
def test_an_error_of_the_velocity_enters_the_drift_once_and_eta_times(path, eta):
    """Hence the bound's rate, ``(1 + eta)^2 |e|^2 / (2 eta g^2)``, is least at eta 1: the optimal one."""
    process = ContinuousProcess.of(mixture_2d(path), SDE(diffusion=Natural(eta)))
    t = torch.tensor(0.6, dtype=torch.float64)
    x, e = torch.randn(2, 20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    at = process.evaluate(x, t)
    off = Evaluation(x, t, "velocity", at.velocity + e, path)
    torch.testing.assert_close(process.drift(off) - process.drift(at), (1 + eta) * e, rtol=1e-8, atol=1e-8)
    assert itscale.SDE(diffusion="optimal").coefficient == Natural()


# -- marginals of SDEs on the linear path

START, STOP, SAMPLES = 0.001, 0.98, 10_000
COEFFICIENTS = {
    "natural": Natural(),
    "t": Epsilon("linear"),
    "t^2": Epsilon("t-squared"),
    "t(1 - t)": Epsilon(lambda t: t * (1 - t)),
    "1": Epsilon("constant"),
    "4 t": Epsilon("linear", 4.0),
    "sigma": Epsilon("sigma"),
    "sin^2": Epsilon("sin-squared"),
    "decreasing": Epsilon("decreasing"),
}


def at_stop() -> GaussianMixture:
    base = mixture_1d()
    stds = (STOP**2 * base.stds**2 + (1 - STOP) ** 2).sqrt()
    return GaussianMixture(base.weights, STOP * base.means, stds, dtype=torch.float64)


def normals(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *_: torch.randn(SAMPLES, 1, dtype=torch.float64, generator=generator)


def end_of(diffusion, steps: int) -> torch.Tensor:
    process = ContinuousProcess.of(mixture_1d(), SDE(diffusion=diffusion))
    times = torch.cat([torch.linspace(START, STOP, steps + 1), torch.ones(1)]).double()
    noise = normals(1)
    return drive(process, EulerMaruyama(), times, (1 - START) * noise(), noise, until=steps)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_every_coefficient_reaches_the_marginal_of_the_path(name):
    # 200 steps leave 0.004 to 0.011; exact samples of this size are 0.015 away
    assert quantile_w1(end_of(COEFFICIENTS[name], 200), at_stop()) < 0.035


def test_full_renoising_does_not():
    """``x+ = alpha_+ D + sigma_+ z`` looks like a sampler and is none: 0.146 however many steps."""
    model, noise = mixture_1d(), normals(1)
    times = torch.linspace(START, STOP, 201).tolist()
    x = (1 - START) * noise()
    for now, after in itertools.pairwise(times):
        x = after * model.denoised(x, now) + (1 - after) * noise()
    assert quantile_w1(x, at_stop()) == pytest.approx(0.146, abs=0.03)


# -- mean-reverting models

MEAN = torch.tensor([3.0, -1.0], dtype=torch.float64)


def reverting(kind: str, path=None):
    """A network of ``x_t = alpha x_1 + (1 - alpha) mean + sigma x_0``, exact, for the planar mixture."""
    path = path or OrnsteinUhlenbeck(spread=1.5)
    truth = mixture_2d(path)

    def predict(x, t):
        time = t.flatten()[0]
        alpha, sigma = path.alpha(time), path.sigma(time)
        denoised = truth.denoised(x - (1 - alpha) * MEAN, time)
        noise = (x - alpha * denoised - (1 - alpha) * MEAN) / sigma
        if kind == "velocity":
            return path.d_alpha(time) * (denoised - MEAN) + path.d_sigma(time) * noise
        return {"denoised": denoised, "noise": noise}[kind]

    network = models.wrap(predict, predicts=kind, interpolant=path, event_shape=(2,))
    return models.MeanReverting(network, MEAN)


@pytest.mark.parametrize("kind", ["denoised", "noise", "velocity"])
def test_mean_reverting_updates_are_the_published_ones(kind):
    """Published factors on the mean, data form: ODE and SDE, one step each, in the states of the paper."""
    model = reverting(kind)
    path = model.interpolant
    x, z = torch.randn(2, 25, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t0, t1 = 0.4, 0.6
    times = torch.tensor([t0, t1, 1.0], dtype=torch.float64)
    a0, a1, s0, s1 = (float(f(t)) for f in (path.alpha, path.sigma) for t in (t0, t1))
    h = float(path.log_snr(t1) - path.log_snr(t0))
    denoised = mixture_2d(path).denoised(x - (1 - a0) * MEAN, t0)
    ode = s1 / s0 * x + (a1 - a0 * s1 / s0) * denoised + (1 - s1 / s0 + a0 * s1 / s0 - a1) * MEAN
    kept = a1 / a0 * math.exp(-2 * h)
    loss = 1 - math.exp(-2 * h)
    sde = kept * x + a1 * loss * denoised + (1 - kept - a1 * loss) * MEAN + s1 * math.sqrt(loss) * z
    for view, solver, published in ((ODE(), DDIM(), ode), (SDE(), Ancestral(), sde)):
        process = ContinuousProcess.of(model, view)
        mine = drive(process, solver, times, x - MEAN, lambda k: z, until=1) + MEAN
        torch.testing.assert_close(mine, published, rtol=1e-12, atol=1e-12)


def test_mean_reverting_samples_are_data_again():
    model = reverting("noise")
    # the start leaves alpha = 0.005 of the data out, as published
    result = itscale.sample(model, n=4000, steps=60, grid="karras", solver="2m-sde", process=SDE(), seed=2)
    samples = result.samples[0].double()
    # standard deviations 1.9 and 1.2: 4.89 of them over sqrt(4000), and 0.03 for the discretisation
    assert ((samples.mean(0) - mixture_2d().mean()).abs() < torch.tensor([0.18, 0.13])).all()
    torch.testing.assert_close(result.states[0] + MEAN.float(), result.samples[0], rtol=1e-5, atol=1e-5)
    on_vp = itscale.sample(model, n=4000, steps=60, process=ODE(interpolant="linear"), seed=2).samples[0]
    assert ((on_vp.double().mean(0) - mixture_2d().mean()).abs() < torch.tensor([0.18, 0.13])).all()


def test_a_mean_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match="mean must be finite and of the event's shape"):
        models.MeanReverting(mixture_2d(), torch.zeros(3))
    with pytest.raises(ConfigError, match="mean must be finite"):
        models.MeanReverting(mixture_2d(), torch.tensor([math.nan, 0.0]))
    with pytest.raises(ConfigError, match="spread > 0"):
        OrnsteinUhlenbeck(spread=0.0)


def test_the_path_of_mean_reversion_has_the_published_range():
    path = OrnsteinUhlenbeck()
    assert float(path.alpha(0.0)) == pytest.approx(0.005, rel=1e-12)
    assert float(path.kappa(0.0)) == pytest.approx(39.2, rel=1e-3)
    assert grids.karras(path, 20, 0.0)[0] == 0
