"""GM-SDE and GM-ODE: exact laws, Bayes' rule between levels, nested DDIM, and who is refused."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import itscale
from itscale import models
from itscale.errors import ConfigError
from itscale.interpolants import EDM, VP, Linear
from itscale.preparation import prepare
from itscale.process import ODE, SDE, ContinuousProcess
from itscale.solvers import DDIM, GMODE, GMSDE
from itscale.solvers.mixture_posterior import Posterior
from tests.contracts.solvers import EDM_PATH, KAPPA_MAX, KAPPA_MIN, ode_errors
from tests.oracles import cdf_1d, gm2, mixture_1d, mixture_2d
from tests.solvers.drive import drive, kappa_grid
from tests.solvers.test_settings import ByDensity, Counted

ROWS = 20_000


def law_at(model, t: float):
    """The marginal at time t as a mixture."""
    alpha, sigma = float(model.interpolant.alpha(t)), float(model.interpolant.sigma(t))
    stds = (alpha**2 * model.stds**2 + sigma**2).sqrt()
    return models.GaussianMixture(model.weights, alpha * model.means, stds, dtype=torch.float64)


@pytest.mark.parametrize("path", [Linear(), VP(), EDM(sigma_max=20.0, sigma_min=0.001)], ids=repr)
@pytest.mark.parametrize(
    ("moves", "diffusion"), [(1, "natural"), (4, "natural"), (3, "sigma"), (2, 0.3)], ids=str
)
def test_every_number_of_draws_has_the_exact_law(moves, diffusion, path):
    model = mixture_1d(path)
    process = ContinuousProcess.of(model, SDE(diffusion=diffusion))
    generator = torch.Generator().manual_seed(0)
    times = torch.tensor([*torch.linspace(0.1, 0.97, moves + 1).tolist(), 1.0], dtype=torch.float64)

    def normal(level, j=0):
        return torch.randn(ROWS, 1, dtype=torch.float64, generator=generator)

    start = law_at(model, 0.1).sample(ROWS, generator)
    end = drive(process, GMSDE(), times, start, normal, until=moves)
    uniform = cdf_1d(law_at(model, 0.97), end[:, 0]).sort().values
    steps = (torch.arange(ROWS, dtype=torch.float64) + 0.5) / ROWS
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is passed once in a thousand times
    assert float((uniform - steps).abs().max()) < 1.95 / math.sqrt(ROWS)


def test_the_density_of_a_draw_integrates_to_one_and_is_that_of_the_draws():
    model = mixture_1d()
    process = ContinuousProcess.of(model, SDE())
    times = torch.tensor([0.0, 0.4, 0.6, 1.0], dtype=torch.float64)
    kernel = GMSDE().build(process, times)
    x = torch.full((1, 1), 0.1, dtype=torch.float64)
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)[:, None]
    at = process.evaluate(x.expand(len(grid), -1), times[1])
    density = kernel.log_density(at, 1, grid).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-9)
    mean, square = (float(torch.trapezoid(density * grid[:, 0] ** p, grid[:, 0])) for p in (1, 2))
    z = torch.randn(ROWS, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    many = process.evaluate(x.expand(ROWS, -1), times[1])
    drawn = kernel(many, (), 1, lambda *_: None, z).x[:, 0]
    error = math.sqrt((square - mean**2) / ROWS)
    assert abs(float(drawn.mean()) - mean) < 4.89 * error
    assert float(drawn.square().mean()) == pytest.approx(square, rel=4.89 * math.sqrt(2 / ROWS))


@pytest.mark.parametrize("path", [Linear(), VP(), EDM_PATH], ids=repr)
def test_a_posterior_carried_on_is_the_posterior_there(path):
    model = gm2(path)
    process = ContinuousProcess.of(model, ODE())
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 50, 2, dtype=torch.float64, generator=generator)
    t, later = (path.t_of_kappa(k) for k in (1.7, 0.4))
    alpha, sigma = (torch.stack([f(t), f(later)]).tolist() for f in (path.alpha, path.sigma))
    pull = alpha[1] / sigma[1] ** 2 * y - alpha[0] / sigma[0] ** 2 * x
    moved = Posterior.at(process, x, t).tilted(1 / 0.4**2 - 1 / 1.7**2, pull)
    there = Posterior.at(process, y, later)
    for name in ("log_w", "means", "variances", "mean"):
        torch.testing.assert_close(getattr(moved, name), getattr(there, name), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(moved.mean, model.denoised(y, later), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("path", [Linear(), VP()], ids=repr)
def test_with_an_exact_mixture_it_is_ddim_in_nested_steps(path):
    model, substeps = gm2(path), 3
    process = ContinuousProcess.of(model, ODE())
    kappas = [50.0, 4.0, 0.7, 0.1]
    inner = [a * (b / a) ** (j / substeps) for a, b in itertools.pairwise(kappas) for j in range(substeps)]

    def times(ratios):
        return torch.cat([path.t_of_kappa(torch.tensor(ratios, dtype=torch.float64)), torch.ones(1).double()])

    x = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mine = drive(process, GMODE(substeps), times(kappas), x, until=3)
    nested = drive(process, DDIM(), times([*inner, 0.1]), x, until=9)
    torch.testing.assert_close(mine, nested, rtol=1e-10, atol=1e-10)
    half = drive(process, GMODE(substeps), times(kappas), x.float(), until=3)
    torch.testing.assert_close(half.double(), nested, rtol=1e-4, atol=1e-4)


def test_sixteen_steps_inside_have_their_tabulated_error():
    for error, tabulated in zip(ode_errors(GMODE(16), (4, 8, 16)), (0.025, 0.0127, 0.0064), strict=True):
        assert error == pytest.approx(tabulated, rel=0.05)


@pytest.mark.parametrize(("solver", "view"), [(GMSDE(), SDE), (GMODE(), ODE)], ids=repr)
def test_another_path_leaves_the_steps_where_they_were(solver, view):
    x, *z = torch.randn(9, 20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ends = []
    for path in (None, "linear"):
        process = ContinuousProcess.of(gm2(EDM(sigma_max=20.0, sigma_min=0.001)), view(interpolant=path))
        times = kappa_grid(process, 5, KAPPA_MAX, KAPPA_MIN)
        scale = float(process.interpolant.sigma(times[0]))
        end = drive(
            process, solver, times, scale * x, lambda k, j=0: z[k] if j == 0 else z[k].flip(0), until=5
        )
        ends.append(end / float(process.interpolant.alpha(times[5])))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-9)


def test_they_run_from_pure_noise_through_sample():
    for name in ("gm-sde", "gm-ode"):
        result = itscale.sample(
            mixture_2d(), n=8, steps=4, solver=name, seed=0, process=None if name == "gm-ode" else SDE()
        )
        assert result.samples.isfinite().all()
        assert result.spent.nfe == [8 * 4]


@pytest.mark.parametrize(("name", "view", "instead"), [("gm-sde", SDE(), "2m-sde"), ("gm-ode", ODE(), "dpm")])
def test_models_without_a_mixture_are_refused_before_any_call(name, view, instead):
    network = Counted()
    model = models.wrap(network, predicts="velocity", interpolant="linear", event_shape=(2,))
    with pytest.raises(ConfigError, match=rf"needs a model that states.*GaussianMixture.*{instead}"):
        itscale.sample(model, n=2, steps=4, solver=name, process=view)
    assert network.rows == 0


def test_other_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="is not Gaussian"):
        prepare(
            mixture_2d(), reward=lambda x: x[:, 0], method=ByDensity(particles=2), steps=6, solver="gm-sde"
        )
    for substeps in (0, 1.5, True):
        with pytest.raises(ConfigError, match="substeps must be a whole number >= 1"):
            GMODE(substeps)
