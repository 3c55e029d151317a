"""Diffusion coefficients: values, and exponents against adaptive quadrature."""

from __future__ import annotations

import math

import pytest
from scipy.integrate import quad

from itscale.errors import ConfigError, UnknownName
from itscale.interpolants import EDM, VP, Linear, Trigonometric
from itscale.process import Coefficient, Epsilon, Natural, get_diffusion
from itscale.process.diffusion import SHAPES

PATHS = [Linear(), VP(), Trigonometric(), EDM()]
INTERVALS = [(0.02, 0.04), (0.3, 0.35), (0.1, 0.6), (0.9, 0.98)]
COEFFICIENTS = [
    *(Coefficient(s, 1.7) for s in SHAPES if s != "zero"),
    *(Epsilon(s, 0.6) for s in SHAPES if s != "zero"),
    Coefficient(lambda t: 1 + t),
    Natural(),
    Natural(eta_sde=0.4),
]


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("coefficient", COEFFICIENTS, ids=lambda c: type(c).__name__)
def test_exponent_is_the_integral_of_half_the_squared_ratio_to_sigma(coefficient, path):
    for t0, t1 in INTERVALS:
        truth, error = quad(
            lambda t: (coefficient(t, path) / float(path.sigma(t))) ** 2 / 2, t0, t1, epsabs=0, epsrel=1e-12
        )
        # 48 Gauss nodes; the nearest singularity (t = 1, at the distance of the interval's length / 4) leaves
        # less than 1e-9
        assert coefficient.exponent(t0, t1, path) == pytest.approx(truth, rel=1e-8, abs=2 * error)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_exponents_of_adjacent_intervals_add_up(path):
    for coefficient in COEFFICIENTS:
        parts = coefficient.exponent(0.2, 0.3, path) + coefficient.exponent(0.3, 0.5, path)
        assert coefficient.exponent(0.2, 0.5, path) == pytest.approx(parts, rel=1e-9)


def test_epsilon_is_half_the_square_of_the_coefficient():
    path = Linear()
    for shape in ("sigma", "linear", "t-squared", "sine", "sin-squared", "constant"):
        epsilon = Epsilon(shape, 0.3)
        assert epsilon(0.4, path) ** 2 / 2 == pytest.approx(0.3 * Coefficient(shape)(0.4, path), rel=1e-14)


def test_natural_coefficient_is_beta_on_vp_and_two_over_the_ratio_on_the_linear_path():
    for t in (0.1, 0.5, 0.95):
        assert Natural()(t, VP()) ** 2 == pytest.approx(0.1 + 19.9 * (1 - t), rel=1e-12)
        assert Natural()(t, Linear()) ** 2 == pytest.approx(2 * (1 - t) / t, rel=1e-12)
        assert Natural(0.25)(t, VP()) == pytest.approx(Natural()(t, VP()) / 2, rel=1e-12)


def test_natural_exponent_from_pure_noise_is_infinite():
    assert Natural().exponent(0.0, 0.1, Linear()) == math.inf
    assert Natural(0.0).exponent(0.0, 0.1, Linear()) == 0
    assert Natural()(0.0, Linear()) == math.inf


def test_shapes_are_functions_of_noise_time():
    values = {"constant": 1.0, "sigma": 0.75, "linear": 0.75, "t-squared": 0.75**2}
    values |= {"sine": math.sin(math.pi * 0.375), "sin-squared": 0.5, "zero": 0.0}
    values |= {"decreasing": (1 - math.cos(math.pi * 0.75)) ** 2 / 4}
    assert values.keys() == SHAPES.keys()
    for name, value in values.items():
        assert Coefficient(name, 2.0)(0.25, Linear()) == pytest.approx(2 * value, rel=1e-14)


def test_coefficients_come_from_names_numbers_functions_and_objects():
    assert get_diffusion("natural") == Natural()
    assert get_diffusion("sigma") == Coefficient("sigma")
    assert get_diffusion(0.5) == Coefficient("constant", 0.5)
    assert get_diffusion(math.cos)(0.3, Linear()) == math.cos(0.3)
    mine = Epsilon("sigma", 2.0)
    assert get_diffusion(mine) is mine


def test_unknown_and_negative_coefficients_are_refused():
    with pytest.raises(UnknownName, match="sigma"):
        get_diffusion("sigmo")
    for scale in (-1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="scale"):
            Coefficient("sigma", scale)
        with pytest.raises(ConfigError, match="scale"):
            Natural(scale)
    with pytest.raises(ConfigError, match="diffusion"):
        get_diffusion(True)
