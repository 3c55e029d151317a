"""Paths, conversions between predictions, and change of path."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass

import pytest
import torch
from scipy.integrate import quad

from itscale import interpolants
from itscale.errors import ConfigError, UnknownName
from itscale.interpolants import (
    EDM,
    INTERPOLANTS,
    KINDS,
    VE,
    VP,
    Cosine,
    Interpolant,
    Linear,
    Table,
    Trigonometric,
    coefficients,
    get_interpolant,
    match,
)
from tests.contracts.interpolants import (
    CHECKS,
    PATHS,
    check_derivatives,
    check_time_of_kappa,
    interior_times,
    path_id,
)
from tests.contracts.interpolants import check_wronskian as check_positive_wronskian
from tests.oracles import mixture_2d

EVERY_PATH = pytest.mark.parametrize("path", PATHS, ids=path_id)


@EVERY_PATH
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_contract(check, path):
    check(path)


@dataclass(frozen=True)
class WrongSlope(Interpolant):
    """Noise time left in a derivative, and a time of kappa for noise time."""

    @property
    def t_max(self):
        return 1.0

    def alpha(self, t):
        return Linear().alpha(t)

    def sigma(self, t):
        return Linear().sigma(t)

    def d_alpha(self, t):
        return Linear().d_alpha(t)

    def d_sigma(self, t):
        return -Linear().d_sigma(t) * 2

    def t_of_kappa(self, kappa):
        return 1 - Linear().t_of_kappa(kappa)


@pytest.mark.parametrize("check", [check_derivatives, check_positive_wronskian, check_time_of_kappa])
def test_contract_fails_on_a_wrong_path(check):
    with pytest.raises(AssertionError):
        check(WrongSlope())


# --- the formulas, in noise time as the papers write them ---------------------------------------------------


def test_vp_integrates_its_noise_rate():
    path = VP(0.1, 20.0)
    for t in (0.0, 0.3, 0.9, 0.999):
        integral, _ = quad(lambda tau: 0.1 + 19.9 * tau, 0, 1 - t)
        assert float(path.alpha(t)) == pytest.approx(math.exp(-integral / 2), rel=1e-12)
        assert float(path.sigma(t)) == pytest.approx(math.sqrt(1 - math.exp(-integral)), rel=1e-10)
    assert float(path.alpha(0.0)) == pytest.approx(0.00657, abs=5e-6)


def test_cosine_is_the_ratio_of_cosines():
    path = Cosine(0.008)
    for t in (0.0, 0.3, 0.9):
        expected = math.cos(math.pi / 2 * (1 - t + 0.008) / 1.008) / math.cos(math.pi / 2 * 0.008 / 1.008)
        assert float(path.alpha(t)) == pytest.approx(expected, abs=1e-15)
        assert float(path.alpha(t) ** 2 + path.sigma(t) ** 2) == pytest.approx(1, abs=1e-15)


def test_trigonometric_reaches_its_ends_exactly():
    path = Trigonometric()
    assert [float(path.alpha(0.0)), float(path.sigma(0.0))] == [0, 1]
    assert [float(path.alpha(1.0)), float(path.sigma(1.0))] == [1, 0]
    assert float(path.wronskian(0.37)) == pytest.approx(math.pi / 2, rel=1e-15)


def test_ve_is_geometric():
    path = VE(0.02, 30.0)
    assert float(path.sigma(0.0)) == pytest.approx(30.0, rel=1e-14)
    assert float(path.sigma(0.5)) == pytest.approx(math.sqrt(0.02 * 30.0), rel=1e-14)
    assert float(path.sigma(1.0)) == pytest.approx(0.02, rel=1e-14)


def test_edm_ends_clean_and_stops_at_its_smallest_noise():
    path = EDM(80.0, 0.002)
    assert float(path.sigma(1.0)) == 0
    assert float(path.sigma(path.t_max)) == pytest.approx(0.002, rel=1e-10)  # eps / (1 - t_max)


def test_variance_preserving_sigma_near_the_data_does_not_cancel():
    # 1 - alpha^2 = beta_min tau to first order; sqrt(1 - alpha^2) would be wrong in the 4th digit here
    tau = 2.0**-40
    assert float(VP().sigma(1 - tau)) == pytest.approx(math.sqrt(0.1 * tau), rel=1e-9)


@pytest.mark.parametrize("path", [Linear(), Trigonometric(), Cosine()], ids=path_id)
def test_infinite_kappa_is_time_zero(path):
    assert float(path.kappa(0.0)) == math.inf
    assert float(path.t_of_kappa(math.inf)) == 0


@pytest.mark.parametrize(
    ("path", "kappa"),
    [(VP(), math.inf), (VE(), 0.001), (EDM(), 81.0), (Linear(), -0.1), (Linear(), math.nan)],
)
def test_kappa_outside_the_path_is_refused(path, kappa):
    with pytest.raises(ConfigError, match="noise-to-signal"):
        path.t_of_kappa(kappa)


# --- tables -------------------------------------------------------------------------------------------------


def test_table_reproduces_its_entries():
    path = Table.scaled_linear()
    n = len(path.alphas_bar)
    index = torch.arange(n)
    t = (n - 1 - index).double() / n
    alphas_bar = torch.tensor(path.alphas_bar, dtype=torch.float64)
    # kappa = exp of an interpolated logarithm; near index 0, 1 - alphas_bar = 8.5e-4 has lost three digits
    torch.testing.assert_close(path.alpha(t), alphas_bar.sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(path.sigma(t), (1 - alphas_bar).sqrt(), rtol=1e-10, atol=0)
    torch.testing.assert_close(path.index_of(t), index.double(), rtol=0, atol=1e-9)


def test_table_betas_are_those_of_the_papers():
    betas = [(0.00085**0.5 + i / 999 * (0.012**0.5 - 0.00085**0.5)) ** 2 for i in range(1000)]
    assert Table.from_betas(betas).alphas_bar == pytest.approx(Table.scaled_linear().alphas_bar, rel=1e-12)
    sd, ddpm = Table.scaled_linear(), Table.linear()
    assert float(sd.kappa(0.0)) == pytest.approx(14.61, abs=0.005)
    assert float(sd.kappa(sd.t_max)) == pytest.approx(0.0292, abs=5e-5)
    assert float(ddpm.kappa(0.0)) == pytest.approx(157.4, abs=0.05)
    assert float(ddpm.kappa(ddpm.t_max)) == pytest.approx(0.0100, abs=5e-5)


def test_table_is_geometric_between_entries_and_linear_at_the_end():
    path = Table((0.9, 0.5, 0.1))
    kappa = [math.sqrt((1 - a) / a) for a in path.alphas_bar]
    assert float(path.kappa(0.5 / 3)) == pytest.approx(math.sqrt(kappa[1] * kappa[2]), rel=1e-14)
    assert float(path.index_of(0.5 / 3)) == pytest.approx(1.5)
    assert float(path.kappa(1 - 1 / 6)) == pytest.approx(kappa[0] / 2, rel=1e-14)
    assert float(path.index_of(1 - 1 / 6)) == 0
    assert float(path.kappa(1.0)) == 0
    assert math.isfinite(float(path.d_sigma(1.0)))


@pytest.mark.parametrize(
    "alphas_bar", [(0.5,), (0.5, 0.9), (0.9, 0.9), (1.0, 0.5), (0.9, 0.0), (0.9, math.nan)]
)
def test_table_refuses_what_is_not_a_schedule(alphas_bar):
    with pytest.raises(ConfigError, match="alphas_bar"):
        Table(alphas_bar)


def test_paths_are_values():
    for path in PATHS:
        assert pickle.loads(pickle.dumps(path)) == path
        assert hash(pickle.loads(pickle.dumps(path))) == hash(path)
    assert Table(torch.tensor([0.9, 0.5], dtype=torch.float64)) == Table((0.9, 0.5))


@pytest.mark.parametrize(
    "build",
    [lambda: VP(0.0), lambda: VP(3.0, 2.0), lambda: Cosine(0.0), lambda: VE(2.0, 1.0), lambda: EDM(0.001)],
)
def test_paths_refuse_bad_settings(build):
    with pytest.raises(ConfigError):
        build()


def test_names():
    for name, kind in INTERPOLANTS.items():
        assert isinstance(get_interpolant(name), kind)
    path = VP(0.2)
    assert get_interpolant(path) is path
    with pytest.raises(UnknownName, match="'linear'"):
        get_interpolant("lineer")
    with pytest.raises(ConfigError, match=r"instance such as Linear\(\)"):
        get_interpolant(Linear)


# --- conversions between predictions ------------------------------------------------------------------------

GETTERS = {
    "denoised": interpolants.denoised,
    "noise": interpolants.noise,
    "velocity": interpolants.velocity,
    "score": interpolants.score,
}


def meant(path: Interpolant, t: torch.Tensor, seed: int = 0):
    """A denoised sample and noise per time, the state they add up to, and all they imply."""
    generator = torch.Generator().manual_seed(seed)
    data, noise = torch.randn(2, t.numel(), 3, generator=generator, dtype=torch.float64)
    c = coefficients(path, t)
    alpha, sigma, d_alpha, d_sigma = (v.reshape(-1, 1) for v in (c.alpha, c.sigma, c.d_alpha, c.d_sigma))
    x = alpha * data + sigma * noise
    answers = {
        "denoised": data,
        "noise": noise,
        "velocity": d_alpha * data + d_sigma * noise,
        "score": -noise / sigma,
        "v": alpha * noise - sigma * data,
    }
    return x, c, answers


def magnitude(path: Interpolant, t: torch.Tensor) -> float:
    """The largest factor by which a conversion on this path and at these times can amplify rounding."""
    c = coefficients(path, t)
    large = torch.stack([c.sigma, c.d_alpha.abs(), c.d_sigma.abs()]).amax(0).clamp(min=1)
    small = torch.minimum(c.alpha, c.sigma)
    return float((large / small).amax() ** 2)


@EVERY_PATH
@pytest.mark.parametrize("kind", KINDS)
def test_every_prediction_gives_every_quantity(kind, path):
    t = torch.linspace(0.05, 0.95, 13, dtype=torch.float64)
    x, c, answers = meant(path, t)
    raw = interpolants.raw_from(kind, answers["denoised"], answers["noise"], c)
    torch.testing.assert_close(raw, answers[kind], rtol=1e-14, atol=1e-13)
    for name, get in GETTERS.items():
        # two roundings of x, amplified at most by two quotients of coefficients
        torch.testing.assert_close(
            get(kind, raw, x, c), answers[name], rtol=1e-12, atol=4e-15 * magnitude(path, t)
        )


@EVERY_PATH
@pytest.mark.parametrize("kind", KINDS)
def test_one_time_for_all_rows_equals_a_time_per_row(kind, path):
    x, _, answers = meant(path, torch.full((5,), 0.4, dtype=torch.float64))
    one, each = coefficients(path, 0.4), coefficients(path, torch.full((5,), 0.4, dtype=torch.float64))
    raw = interpolants.raw_from(kind, answers["denoised"], answers["noise"], one)
    for get in GETTERS.values():
        torch.testing.assert_close(get(kind, raw, x, one), get(kind, raw, x, each), rtol=1e-13, atol=1e-11)


@EVERY_PATH
@pytest.mark.parametrize("rows", [False, True])
def test_velocity_and_v_determine_both_ends(rows, path):
    for end in (0.0, 1.0):
        t = torch.full((4,), end, dtype=torch.float64)
        x, each, answers = meant(path, t)
        c = each if rows else coefficients(path, end)
        kinds = ["velocity", "v"] if end <= path.t_max else ["v"]
        for kind in kinds:
            raw = interpolants.raw_from(kind, answers["denoised"], answers["noise"], c)
            # one rounding of x of size sigma, divided by alpha or by the Wronskian
            atol = 1e-13 * max(1.0, float(path.sigma(end)))
            torch.testing.assert_close(
                interpolants.denoised(kind, raw, x, c), answers["denoised"], rtol=0, atol=atol
            )
            if float(path.sigma(end)) > 0 or kind == "v" or path.t_max == 1:
                got = interpolants.noise(kind, raw, x, c)
                torch.testing.assert_close(got, answers["noise"], rtol=0, atol=atol)


@pytest.mark.parametrize("path", [VP(), Cosine()], ids=path_id)
@pytest.mark.parametrize("t", [1.0, torch.ones(4, dtype=torch.float64)])
def test_an_infinite_slope_at_the_data_leaves_the_state_as_the_denoised_sample(t, path):
    x = torch.arange(8, dtype=torch.float64).reshape(4, 2)
    c = coefficients(path, t)
    torch.testing.assert_close(interpolants.denoised("velocity", x + 1, x, c), x, rtol=0, atol=0)
    with pytest.raises(ConfigError, match="velocity does not follow"):
        interpolants.velocity("denoised", x, x, c)


def test_a_denoised_sample_determines_the_data_end():
    x = torch.ones(3, 2)
    c = coefficients(Trigonometric(), 1.0)
    assert (interpolants.noise("denoised", x, x, c) == 0).all()
    # alpha' = 0 at the end of a quarter circle; on the straight path the velocity is the sample
    torch.testing.assert_close(
        interpolants.velocity("denoised", x, x, c), torch.zeros(3, 2), rtol=0, atol=1e-7
    )
    torch.testing.assert_close(interpolants.velocity("denoised", x, x, coefficients(Linear(), 1.0)), x)


def test_what_does_not_follow_raises():
    x = torch.ones(3, 2)
    start, end = coefficients(Linear(), 0.0), coefficients(Linear(), torch.tensor([0.5, 1.0, 0.2]))
    with pytest.raises(ConfigError, match="denoised sample does not follow from the noise"):
        interpolants.denoised("noise", x, x, start)
    with pytest.raises(ConfigError, match="score does not follow"):
        interpolants.score("velocity", x, x, end)
    torch.testing.assert_close(interpolants.score("velocity", x, x, start), -x)  # -x / sigma^2 at pure noise


@pytest.mark.parametrize("t", [0.3, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)])
def test_states_keep_their_dtype(t):
    c = coefficients(VP(), t)
    x, raw = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    for kind in KINDS:
        for name, get in GETTERS.items():
            assert get(kind, raw, x, c).dtype == torch.float32
            assert get(kind, raw.bfloat16(), x, c).dtype == torch.float32
            if kind == name:
                assert get(kind, raw, x, c) is raw
        # half precision enters by the rounding of raw alone, 2^-8 relative
        half = interpolants.denoised(kind, raw.bfloat16(), x, c)
        exact = interpolants.denoised(kind, raw.bfloat16().double(), x.double(), c)
        torch.testing.assert_close(half.double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("get", GETTERS.values())
def test_unknown_prediction_is_named(get):
    x = torch.ones(1, 1)
    with pytest.raises(UnknownName, match="'velocity'"):
        get("velocty", x, x, coefficients(Linear(), 0.5))


# --- change of path -----------------------------------------------------------------------------------------

CONTINUOUS = [Linear(), Trigonometric(), VP(), Cosine(), VE(0.001, 200.0), EDM(200.0), Table.linear()]
ON_ANOTHER = pytest.mark.parametrize("target", CONTINUOUS, ids=path_id)


@ON_ANOTHER
@pytest.mark.parametrize("source", CONTINUOUS, ids=path_id)
def test_match_has_equal_kappa_and_one_scale(source, target):
    s = target.t_of_kappa(torch.logspace(math.log10(90), -1.9, 9, dtype=torch.float64))
    t, c = match(source, target, s)
    torch.testing.assert_close(source.kappa(t), target.kappa(s), rtol=1e-9, atol=0)  # t near 1 loses 4 digits
    torch.testing.assert_close(c * source.alpha(t), target.alpha(s), rtol=1e-9, atol=0)
    torch.testing.assert_close(c * source.sigma(t), target.sigma(s), rtol=1e-9, atol=0)
    back, inverse = match(target, source, t)
    torch.testing.assert_close(back, s, rtol=0, atol=1e-11)
    torch.testing.assert_close(inverse * c, torch.ones_like(c), rtol=1e-9, atol=0)


@ON_ANOTHER
def test_match_from_the_straight_path_in_closed_form(target):
    s = interior_times(target)
    t, c = match(Linear(), target, s)
    total = target.alpha(s) + target.sigma(s)
    torch.testing.assert_close(t, target.alpha(s) / total, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(c, total, rtol=1e-9, atol=0)


def test_match_is_finite_at_both_ends():
    for source in (Linear(), Trigonometric(), Cosine()):
        for target in (Linear(), Trigonometric(), Cosine()):
            t, c = match(source, target, torch.tensor([0.0, 1.0], dtype=torch.float64))
            torch.testing.assert_close(t, torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-15)
            torch.testing.assert_close(c, torch.ones(2, dtype=torch.float64))
    t, c = match(Linear(), VP(), 0.0)
    assert [float(t), float(c)] == pytest.approx([0.00653, 1.00655], abs=5e-6)


@ON_ANOTHER
def test_a_model_run_along_another_path_has_that_paths_velocity(target):
    source = mixture_2d("linear")
    direct = mixture_2d(target)
    s = target.t_of_kappa(torch.logspace(1.9, -1.9, 64, dtype=torch.float64))
    noise = torch.randn(64, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = source.sample(64, torch.Generator().manual_seed(2))
    x = target.alpha(s)[:, None] * data + target.sigma(s)[:, None] * noise
    t, c = match(source.interpolant, target, s)
    y = x / c[:, None]
    raw, at = source.predict(y, t), coefficients(source.interpolant, t)
    meant_data = interpolants.denoised("velocity", raw, y, at)
    meant_noise = interpolants.noise("velocity", raw, y, at)
    got = interpolants.raw_from("velocity", meant_data, meant_noise, coefficients(target, s))
    # 3e-14 for VP; kappa 0.013 on the straight path loses two digits, and slopes reach 200 on EDM
    slope = 1 + target.d_sigma(s).abs()[:, None]
    assert float(((got - direct.velocity(x, s)) / slope).abs().max()) < 1e-10
