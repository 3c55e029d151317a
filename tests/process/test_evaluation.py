"""One look: its algebra, the drift, and a model run on a path it was not trained on."""

from __future__ import annotations

import pytest
import torch

from itscale import interpolants
from itscale.interpolants import KINDS, VP
from itscale.models import GaussianMixture
from itscale.process import ODE, SDE, ContinuousProcess, Evaluation
from itscale.solvers import Heun
from tests.oracles import mixture_2d
from tests.solvers.drive import drive

PATHS = ["linear", "vp", "cosine", "edm", "ve"]


def states(rows: int = 40, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize("t", [0.3, 0.9])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
def test_quantities_of_an_evaluation_equal_the_closed_forms_whatever_was_predicted(kind, path, t):
    model = mixture_2d(path)
    x, time = states(), torch.tensor(t, dtype=torch.float64)
    truth = Evaluation(x, time, "velocity", model.velocity(x, t), model.interpolant)
    raw = interpolants.raw_from(kind, model.denoised(x, t), truth.noise, truth.coefficients)
    at = Evaluation(x, time, kind, raw, model.interpolant)
    # VE and EDM reach noise of 50 and 80: their rounding is that much larger
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(at.denoised, model.denoised(x, t), **close)
    torch.testing.assert_close(at.score, model.score(x, t), **close)
    torch.testing.assert_close(at.velocity, model.velocity(x, t), **close)
    c = at.coefficients
    torch.testing.assert_close(c.alpha * at.denoised + c.sigma * at.noise, x, **close)


def test_a_time_per_row_gives_what_one_time_gives():
    model = mixture_2d("vp")
    x = states(3)
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    together = Evaluation(x, t, "velocity", model.velocity(x, t), model.interpolant)
    for i in range(3):
        row = slice(i, i + 1)
        alone = Evaluation(x[row], t[i], "velocity", model.velocity(x[row], t[i]), model.interpolant)
        for name in ("denoised", "noise", "score", "velocity"):
            torch.testing.assert_close(getattr(together, name)[row], getattr(alone, name))


@pytest.mark.parametrize("diffusion", ["natural", "sigma", 0.8])
@pytest.mark.parametrize("path", PATHS)
def test_drift_is_velocity_plus_half_the_squared_coefficient_times_score(path, diffusion):
    process = ContinuousProcess.of(mixture_2d(path), SDE(diffusion=diffusion))
    x, t = states(), torch.tensor(0.6, dtype=torch.float64)
    model, g = process.model, process.g(0.6)
    expected = model.velocity(x, 0.6) + g**2 / 2 * model.score(x, 0.6)
    torch.testing.assert_close(process.drift(process.evaluate(x, t)), expected, rtol=1e-9, atol=1e-9)


def test_drift_without_noise_is_the_velocity():
    process = ContinuousProcess.of(mixture_2d(), ODE())
    at = process.evaluate(states(), torch.tensor(0.6, dtype=torch.float64))
    assert process.drift(at) is at.velocity


@pytest.mark.parametrize("view", [ODE, SDE])
def test_a_path_of_ones_own_is_taken_by_name_or_object_and_the_models_path_is_the_default(view):
    model = mixture_2d()
    assert ContinuousProcess.of(model, view()).interpolant == model.interpolant
    assert not ContinuousProcess.of(model, view(interpolant="linear")).is_converted
    named, given = (ContinuousProcess.of(model, view(interpolant=p)) for p in ("vp", VP()))
    assert named.interpolant == given.interpolant
    assert named.is_converted


@pytest.mark.parametrize("path", ["vp", "cosine", "trigonometric"])
@pytest.mark.parametrize("kind", KINDS)
def test_converted_velocity_is_that_of_a_model_trained_on_the_path(kind, path):
    class Predicting(GaussianMixture):
        predicts = kind

        def predict(self, x, t, condition=None):
            at = Evaluation(x, torch.as_tensor(t), "velocity", self.velocity(x, t), self.interpolant)
            return interpolants.raw_from(kind, at.denoised, at.noise, at.coefficients)

    trained = mixture_2d(path)
    base = mixture_2d()
    model = Predicting(base.weights, base.means, base.stds, dtype=torch.float64)
    process = ContinuousProcess.of(model, ODE(interpolant=path))
    x = states()
    for t in (0.05, 0.35, 0.8, 0.99):
        at = process.evaluate(x, torch.tensor(t, dtype=torch.float64))
        torch.testing.assert_close(at.velocity, trained.velocity(x, t), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(at.denoised, trained.denoised(x, t), rtol=1e-10, atol=1e-10)


def test_a_converted_process_starts_at_the_noisiest_time_both_paths_know():
    vp = ContinuousProcess.of(mixture_2d("vp"), ODE(interpolant="linear"))
    ratio = float(VP().kappa(0.0))
    assert float(vp.interpolant.kappa(vp.t_start)) == pytest.approx(ratio, rel=1e-9)
    assert ContinuousProcess.of(mixture_2d(), ODE(interpolant="vp")).t_start == VP().t_min


def test_heun_on_vp_reaches_the_linear_states_with_second_order():
    """The map from noise to less noise does not depend on the path, so both discretisations approach it."""
    model = mixture_2d()
    linear, vp = (ContinuousProcess.of(model, ODE(interpolant=p)) for p in (None, "vp"))
    stop = 0.95  # before the jump to the denoised sample, which on VP is of first order in its length
    unit = states(200, scale=1.0)
    errors = []
    for steps in (25, 100, 400):
        ends = []
        for process in (linear, vp):
            path = process.interpolant
            first, last = (
                float(path.t_of_kappa(vp.interpolant.kappa(t))) for t in (vp.t_start, stop)
            )  # equal noise-to-signal ratios on both paths
            times = torch.cat([torch.linspace(first, last, steps + 1), torch.ones(1)]).double()
            end = drive(process, Heun(), times, unit * float(path.sigma(first)), until=steps)
            ends.append(end / float(path.alpha(last)))
        errors.append(float((ends[0] - ends[1]).norm(dim=1).median()))
    # quarter steps at order 2 give a ratio of 16
    assert errors[0] / errors[1] >= 12
    assert errors[1] / errors[2] >= 12
    assert errors[1] < 2e-3
