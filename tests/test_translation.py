"""Cycle translation: round trips through one model, and from one model to another."""

from __future__ import annotations

import pytest
import torch

from itscale.errors import ConfigError, UnknownName
from itscale.interpolants import VP
from itscale.models import GaussianMixture
from itscale.translation import Translation
from tests.engine.setting import Network, wrapped
from tests.oracles import gm2


def data(n: int = 256) -> torch.Tensor:
    return gm2().sample(n, torch.Generator().manual_seed(0))


def round_trip_error(solver: str, steps: int, model=None) -> float:
    x = data()
    translate = Translation(steps=steps, solver=solver, kappa_min=0.05, kappa_max=20.0)
    model = model or gm2()
    back = translate(x, model, model)
    return float((back - x).square().sum(1).mean().sqrt())


@pytest.mark.parametrize(
    ("solver", "table", "order"),
    [("heun", (5.0e-3, 7.5e-5, 1.3e-6), 3), ("ddim", (0.215, 0.049, 0.0131), 1)],
)
def test_round_trips_return_the_data_at_the_tabulated_rate(solver, table, order):
    errors = [round_trip_error(solver, n) for n in (16, 64, 256)]
    for error, tabulated in zip(errors, table, strict=True):
        assert 1 / 1.6 < error / tabulated < 1.6  # other starts; rates differ by factors of 4 and 16
    assert torch.tensor(errors[1] / errors[2]).log2() / 2 == pytest.approx(order, abs=0.2)


def test_the_models_own_path_does_not_matter():
    on_linear, on_vp = (round_trip_error("heun", 32, gm2(path)) for path in ("linear", VP()))
    assert on_linear == pytest.approx(on_vp, rel=1e-6)


def test_translation_maps_one_gaussian_onto_another():
    """Two Gaussians on the line: the ODE of each is affine, so the translation is the monotone map."""
    source, target = (
        GaussianMixture([1.0], [[m]], [s], dtype=torch.float64) for m, s in ((0.5, 0.4), (-1.0, 0.9))
    )
    low, high = 0.01, 80.0
    x = torch.linspace(-1, 2, 9, dtype=torch.float64)[:, None]

    def spread(s, k):
        return (s**2 + k**2) ** 0.5

    # exact: (y - m) / sqrt(s^2 + kappa^2) is constant along the ODE
    noise = 0.5 + (x - 0.5) * spread(0.4, high) / spread(0.4, low)
    exact = -1.0 + (noise + 1.0) * spread(0.9, low) / spread(0.9, high)
    found = Translation(steps=400, kappa_min=low, kappa_max=high)(x, source, target)
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-3)


def test_noise_of_data_is_normal_and_conditions_are_passed_on():
    translate = Translation(steps=32, kappa_min=0.05, kappa_max=20.0, microbatch=100)
    unit = translate.encode(gm2(), data(4000))
    # 4000 normals: 4.89 standard errors are 0.08 for means and 0.055 for deviations
    assert (unit.mean(0).abs() < 0.08).all()
    assert ((unit.std(0) - 1).abs() < 0.06).all()
    network = Network()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    one, other = (
        Translation(steps=4)(x, wrapped(network), wrapped(network), condition=1.0, target_condition=c)
        for c in (0.0, 2.0)
    )
    assert network.rows == 2 * 5 * 2 * (2 * 4)  # two runs, both ways, Heun without the jump
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "steps must be a whole number"),
        ({"microbatch": 1.5}, "microbatch must be a whole number"),
        ({"kappa_min": 2.0, "kappa_max": 1.0}, "0 < kappa_min < kappa_max"),
        ({"rho": 0.0}, "rho must be positive"),
        ({"solver": "2m-sde"}, "noise would not be undone"),
        ({"solver": "restart"}, "noise would not be undone"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        Translation(**setting)


def test_unknown_solvers_shapes_and_noise_levels_are_named():
    with pytest.raises(UnknownName, match="Did you mean"):
        Translation(solver="huen")
    with pytest.raises(ConfigError, match=r"x must be \(rows"):
        Translation().encode(gm2(), torch.zeros(4, 3))
    with pytest.raises(ConfigError, match="set kappa_max to it or below"):
        Translation(kappa_max=200.0).encode(gm2(VP()), data(4))
