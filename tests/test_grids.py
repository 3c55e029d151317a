"""Time grids."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itscale import grids
from itscale.errors import ConfigError, UnknownName
from itscale.grids import (
    GRIDS,
    DynamicShifted,
    Karras,
    PolyExponential,
    Power,
    Shifted,
    Spaced,
    Stretched,
    get_grid,
    validate_grid,
)
from itscale.interpolants import EDM, VE, VP, Linear, Table, Trigonometric, match
from tests.contracts.interpolants import PATHS, path_id


@pytest.mark.parametrize("path", PATHS, ids=path_id)
@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(steps=st.integers(1, 300), t_start=st.floats(0.0, 0.5))
def test_grids_run_from_start_to_data(name, path, steps, t_start):
    if name == "spaced" and isinstance(path, Table):
        steps = min(steps, len(path.alphas_bar))  # there are no more labels
    times = get_grid(name)(path, steps, t_start)
    assert times.dtype == torch.float64
    assert times.shape == (steps + 1,)
    if name == "spaced":  # whole labels, the first of which may be later
        assert float(times[0]) >= t_start
    else:
        assert float(times[0]) == t_start
    assert float(times[-1]) == 1
    assert (torch.diff(times) > 0).all()


def test_uniform():
    expected = torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0], dtype=torch.float64)
    torch.testing.assert_close(grids.uniform(VP(), 4, 0.2), expected)


def test_karras_is_the_sequence_of_the_paper():
    steps = 10
    sigma = EDM(80.0, 0.002).sigma(grids.karras(EDM(80.0, 0.002), steps))
    expected = [
        (80 ** (1 / 7) + i / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(steps)
    ]
    # the end of the spacing is EDM's t_max, where 1 - t = 2.5e-5 is known to eps / 2.5e-5 = 9e-12
    torch.testing.assert_close(sigma, torch.tensor([*expected, 0.0], dtype=torch.float64), rtol=1e-11, atol=0)


@pytest.mark.parametrize("path", [Linear(), Trigonometric(), VP()], ids=path_id)
def test_log_snr_has_equal_steps_up_to_the_last(path):
    times = grids.log_snr(path, 20, kappa_max=50.0, kappa_min=0.05)
    gaps = torch.diff(path.log_snr(times[1:-1]))  # the first time is t = 0 itself, beyond the cap
    torch.testing.assert_close(gaps, torch.full_like(gaps, math.log(50 / 0.05) / 19), rtol=1e-10, atol=0)
    assert float(path.kappa(times[-2])) == pytest.approx(0.05, rel=1e-12)


def test_a_finite_start_is_the_top_of_the_spacing():
    path = Linear()
    times = grids.log_snr(path, 5, 0.1, kappa_min=0.01)  # kappa(0.1) = 9 < 80
    gaps = torch.diff(path.log_snr(times[:-1]))
    torch.testing.assert_close(gaps, torch.full_like(gaps, math.log(9 / 0.01) / 4), rtol=1e-10, atol=0)


def test_grids_on_one_kappa_range_agree_between_paths():
    a, b = grids.karras(Linear(), 12), grids.karras(VP(), 12)
    torch.testing.assert_close(Linear().kappa(a[1:-1]), VP().kappa(b[1:-1]), rtol=1e-9, atol=0)


@pytest.mark.parametrize("grid", [grids.karras, grids.log_snr, grids.poly_exponential])
def test_the_last_look_stays_inside_the_model(grid):
    table = Table.scaled_linear()
    assert float(table.index_of(grid(table, 30)[-2])) == pytest.approx(0, abs=1e-9)
    edm = EDM(80.0, 0.01)
    assert float(edm.sigma(grid(edm, 30)[-2])) == pytest.approx(0.01, rel=1e-10)


def test_a_path_that_ends_with_noise_is_spaced_to_its_end():
    path = VE(0.1, 10.0)
    times = grids.log_snr(path, 4)
    torch.testing.assert_close(
        times, torch.linspace(0, 1, 5, dtype=torch.float64)
    )  # geometric in time already


def test_poly_exponential():
    path = Linear()
    torch.testing.assert_close(grids.poly_exponential(path, 9), grids.log_snr(path, 9))
    times = grids.poly_exponential(path, 5, rho=2.0, kappa_max=10.0, kappa_min=0.1)
    expected = [0.1 * (10 / 0.1) ** ((1 - i / 4) ** 2) for i in range(1, 5)]
    torch.testing.assert_close(path.kappa(times[1:-1]), torch.tensor(expected, dtype=torch.float64))


def test_shifted_multiplies_kappa_on_the_straight_path():
    path = Linear()
    times = grids.shifted(path, 8, shift=3.0)
    torch.testing.assert_close(path.kappa(times[1:]), 3 * path.kappa(grids.uniform(path, 8)[1:]))
    # 3 tau / (1 + 2 tau) at tau = 4/5, 3/5, 2/5, 1/5
    noise = 1 - grids.shifted(path, 5, shift=3.0)
    expected = torch.tensor([1, 12 / 13, 9 / 11, 2 / 3, 3 / 7, 0], dtype=torch.float64)
    torch.testing.assert_close(noise, expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(grids.shifted(path, 6, 0.2, shift=1.0), grids.uniform(path, 6, 0.2))


def test_shifted_from_a_late_start_covers_the_rest_of_the_same_warp():
    whole = grids.shifted(Linear(), 10, shift=3.0)
    rest = grids.shifted(Linear(), 6, float(whole[4]), shift=3.0)
    torch.testing.assert_close(rest, whole[4:])


def test_dynamic_shift_is_linear_in_the_logarithm():
    assert math.log(grids.dynamic_shift(256)) == pytest.approx(0.5, rel=1e-14)
    assert math.log(grids.dynamic_shift(4096)) == pytest.approx(1.15, rel=1e-14)
    assert math.log(grids.dynamic_shift(64)) == pytest.approx(0.4675, rel=1e-12)
    # FLUX at 16 x 16 tokens in six steps: exp(.4675) tau / (1 + (exp(.4675) - 1) tau)
    noise = 1 - grids.DynamicShifted(tokens=64)(Linear(), 6)
    assert noise.tolist() == pytest.approx([1, 0.8886, 0.7615, 0.6148, 0.4438, 0.2420, 0], abs=6e-5)


def test_stretched_moves_the_last_look_and_keeps_proportions():
    plain, times = grids.uniform(Linear(), 6), Stretched("uniform", 0.1)(Linear(), 6)
    torch.testing.assert_close(times[:-1], plain[:-1] * (0.9 / plain[-2]))
    assert float(times[-1]) == 1
    later = Stretched(Shifted(2.0), 0.25)(Linear(), 6, 0.3)
    assert float(later[0]) == 0.3
    assert float(later[-2]) == pytest.approx(0.75, abs=1e-15)
    torch.testing.assert_close(Stretched("uniform")(Linear(), 1), grids.uniform(Linear(), 1))


@pytest.mark.parametrize(
    ("recipe", "labels"),
    [
        (Spaced("leading", offset=1), [801, 601, 401, 201, 1]),
        (Spaced("trailing"), [999, 799, 599, 399, 199]),
        (Spaced("linspace"), [999, 749, 500, 250, 0]),
    ],
)
def test_spacings_are_whole_labels(recipe, labels):
    table = Table.scaled_linear()
    times = recipe(table, 5)
    assert table.index_of(times[:-1]).tolist() == pytest.approx(labels, abs=1e-9)
    torch.testing.assert_close(recipe(Linear(), 5), times, rtol=0, atol=1e-15)  # off a table, of 1000
    torch.testing.assert_close(recipe(table, 5, 0.5), 0.5 + 0.5 * times)


def test_quarter_circle_sits_at_the_published_noise_levels():
    times = grids.quarter_circle(VP(), 10)
    assert float(times[6]) == pytest.approx(1 - 0.8, abs=1e-15)  # sqrt(1 - .6^2)
    straight, _ = match(Linear(), VP(), times[:-1])
    expected = [0.993, 0.993, 0.992, 0.990, 0.986, 0.978, 0.962, 0.929, 0.859, 0.709]
    assert (1 - straight).tolist() == pytest.approx(expected, abs=6e-4)


def test_power_takes_even_steps_in_a_root_of_noise_time():
    times = grids.power(VP(), 4, 0.2)
    assert (1 - times).tolist() == pytest.approx([0.8, 0.45, 0.2, 0.05, 0.0], abs=1e-15)
    torch.testing.assert_close(grids.power(VP(), 4, 0.2, rho=1.0), grids.uniform(VP(), 4, 0.2))
    torch.testing.assert_close(Power(3.0)(VP(), 5), 1 - torch.linspace(1, 0, 6, dtype=torch.float64) ** 3)
    with pytest.raises(ConfigError, match="Power needs rho > 0"):
        Power(0.0)


def test_recipes_pass_their_settings_on():
    path = Trigonometric()
    settings_by_hand = {
        Karras(rho=3.0, kappa_max=20.0, kappa_min=0.05): grids.karras(
            path, 7, 0.01, rho=3.0, kappa_max=20.0, kappa_min=0.05
        ),
        PolyExponential(rho=0.5, kappa_max=20.0, kappa_min=0.05): grids.poly_exponential(
            path, 7, 0.01, rho=0.5, kappa_max=20.0, kappa_min=0.05
        ),
        Shifted(7.0): grids.shifted(path, 7, 0.01, shift=7.0),
    }
    for recipe, expected in settings_by_hand.items():
        torch.testing.assert_close(recipe(path, 7, 0.01), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.0, 0.5, 0.0], r"got \[1, ..., 0\]; reverse it"),
        ([0.0, 0.5, 0.5, 1.0], "interval 1 does not"),
        ([0.0, math.nan, 1.0], "must increase"),
        ([0.0, 1.5], "rescale"),
        ([-0.1, 1.0], "rescale"),
        ([0.5], "at least two times"),
        ([[0.0, 1.0]], "along one axis"),
    ],
)
def test_validate_grid_says_what_is_wrong(times, message):
    with pytest.raises(ConfigError, match=message):
        validate_grid(times)


def test_validate_grid_returns_float64():
    assert validate_grid(torch.tensor([0.0, 0.5, 1.0])).dtype == torch.float64


@pytest.mark.parametrize(
    "build",
    [
        lambda: grids.uniform(Linear(), 0),
        lambda: grids.uniform(Linear(), 5, 1.0),
        lambda: grids.karras(Linear(), 5, 0.9999),  # starts below kappa_min
        lambda: grids.log_snr(Linear(), 5, kappa_max=0.001),
        lambda: Karras(rho=0.0),
        lambda: PolyExponential(rho=-1.0),
        lambda: Shifted(0.0),
        lambda: DynamicShifted(tokens=0),
        lambda: Stretched(terminal=1.0),
        lambda: Stretched("uniform", 0.9)(Linear(), 5, 0.2),
        lambda: Stretched("karas"),
        lambda: Spaced("trailng"),
        lambda: grids.spaced(Linear(), 5, spacing="trailng"),
        lambda: Spaced("leading", offset=300)(Linear(), 5),
        lambda: Spaced("leading", offset=-1)(Linear(), 5),
        lambda: Spaced("trailing")(Linear(), 1001),
    ],
)
def test_bad_settings_are_refused(build):
    with pytest.raises(ConfigError):
        build()


def test_names():
    for name, kind in GRIDS.items():
        assert isinstance(get_grid(name), kind)
    assert get_grid("log_snr") == get_grid("log-snr")
    recipe = Karras(rho=5.0)
    assert get_grid(recipe) is recipe
    with pytest.raises(UnknownName, match="'karras'"):
        get_grid("karas")
    with pytest.raises(ConfigError, match=r"recipe such as Karras\(\)"):
        get_grid(Karras)
