"""Twisted SMC: guided moves that leave nothing to chance, tempering, schedules, calibration."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import pytest
import torch

import itscale
from itscale.errors import ConfigError, UnknownName
from itscale.methods import CTS, DAS, SMC, TDS, Profile, TwistedSMC
from itscale.methods.profile import PROBABILITIES
from itscale.methods.tempering import Adaptive, Exponential, Listed, Polynomial, Ramp, get_tempering
from itscale.particles import effective_sample_size
from tests.contracts.methods import PROFILE, SPREAD, STEPS, Z, reward, run, tilted_truth
from tests.methods.problem import errors
from tests.methods.problem import run as run_planar
from tests.oracles import DIRECTION
from tests.solvers.drive import gaussian

STD, FINE = 0.7, 50


def posterior_variance(steps: int = FINE, std: float = STD) -> tuple[float, ...]:
    """Of the data given a state of the linear path, for Gaussian data."""
    t = torch.arange(steps, dtype=torch.float64) / steps
    precision = 1 / std**2 + t**2 / (1 - t) ** 2
    return tuple((1 / precision).tolist())


def affine(method: TwistedSMC) -> itscale.Result:
    """A Gaussian and a linear reward: the value is affine in the state all along."""
    return itscale.sample(
        gaussian(0.4, STD), reward=reward, tilt=2.0, method=method, steps=FINE, solver="ancestral"
    )


def spread_of_weights(method: TwistedSMC) -> float:
    return float(affine(method).log_weights.std())


def test_the_gradient_at_the_denoised_sample_with_the_right_jacobian_leaves_only_the_first_weight():
    """The push is then the exact gradient of the value ahead: all increments are equal."""
    method = TwistedSMC(particles=64, guide="denoised", spread=posterior_variance(), cap=1e6)
    assert spread_of_weights(method) < 1e-12
    assert float(effective_sample_size(affine(method).log_weights)) == pytest.approx(64, abs=1e-12)


def test_a_wrong_jacobian_or_a_cap_leaves_weights_that_vary():
    wrong = tuple(1.1 * c for c in posterior_variance())
    assert spread_of_weights(TwistedSMC(particles=64, guide="denoised", spread=wrong, cap=1e6)) > 1e-2
    exact = TwistedSMC(particles=64, guide="denoised", spread=posterior_variance(), cap=0.05)
    assert spread_of_weights(exact) > 1e-2


def test_the_gradient_through_the_network_lags_a_level_behind_the_best_push():
    """Its push uses the slope at the level it leaves: published spread 0.022, ESS 0.990 of all."""
    method = TwistedSMC(particles=4096, guide="network", ess_threshold=0.0)
    spread = spread_of_weights(method)
    assert 0.005 < spread < 0.2
    share = float(effective_sample_size(affine(method).log_weights)) / 4096
    assert 0.96 < share < 0.9999


@pytest.mark.parametrize("guide", ["network", "denoised", "population", "regression", "none"])
@pytest.mark.parametrize("tempering", ["none", "exponential", "ramp"])
def test_every_combination_reaches_the_tilted_law(guide, tempering):
    """As in ``test_convergence``; the spread is that of one wide Gaussian, a poor one."""

    @itscale.reward(name="line", modality="vector", differentiable=True)
    def line(vectors):
        return vectors @ torch.tensor(DIRECTION, dtype=vectors.dtype)

    t = torch.arange(FINE, dtype=torch.float64) / FINE
    spread = tuple((1 / (1 / 1.9 + t**2 / (1 - t) ** 2)).tolist())
    method = TwistedSMC(particles=256, tempering=tempering, guide=guide, spread=spread, cap=1.0)
    found = errors(run_planar(method, reward=line))
    assert abs(found.expected_reward) <= 0.12
    assert abs(found.log_evidence) <= 0.10
    assert found.modes <= 0.08


def test_a_guide_halves_the_error_of_the_evidence():
    plain = run(SMC(particles=32)).log_evidence.std()
    for method in (TDS(particles=32), DAS(particles=32), CTS(particles=32, profile=PROFILE)):
        assert float(run(method).log_evidence.std()) < 0.75 * float(plain), method


@pytest.mark.parametrize("drift", ["none", "population", "regression", "denoised"])
def test_numbers_of_particles_that_vary_leave_the_evidence_unbiased(drift):
    schedule = (2.0, 0.5, 0.3, 3.0, 1.0, 0.2, 1.5, 0.4)
    method = TwistedSMC(particles=16, guide=drift, spread=SPREAD, cap=1.0, schedule=schedule)
    sizes = method.sizes(16, STEPS)
    assert sum(sizes) == 16 * STEPS
    assert sizes[:4] == (28, 7, 4, 43)
    result = run(method, groups=4000)
    assert result.spent.nfe == [16 * STEPS] * 4000
    assert [row["particles"] for row in result.trace] == [*sizes, sizes[-1]]
    _, log_z = tilted_truth()
    ratio = (result.log_evidence - log_z).exp()
    assert abs(float(ratio.mean()) - 1) <= Z * float(ratio.std()) / math.sqrt(4000)


class TestTempering:
    def test_all_end_at_one_and_rise(self):
        for name in ("none", "ramp", "exponential", "polynomial"):
            values = get_tempering(name)(20)
            assert float(values[-1]) == 1
            assert (values.diff() >= 0).all()

    def test_values(self):
        assert Exponential(0.1)(8).tolist()[:3] == pytest.approx([0, 0.1, 0.21])
        assert Exponential(0.008)(100)[87:].min() == 1
        assert Ramp()(5).tolist() == [0, 0.25, 0.5, 0.75, 1]
        assert Polynomial(2.0)(5).tolist() == [0, 1 / 16, 1 / 4, 9 / 16, 1]

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Exponential(0.001)(10), "reaches 0.009.* in 10 steps.*gamma >="),
            (lambda: Exponential(-1.0), "gamma must be > 0"),
            (lambda: Polynomial(gamma=0.5), "never reaches 1"),
            (lambda: Listed((0.5, 0.9)), "must end at 1"),
            (lambda: Listed((0.5, 1.0))(3), "lists 2 exponents for 3 steps"),
            (lambda: Adaptive(1.0), r"ess must be in \(0, 1\)"),
            (lambda: get_tempering(3), "tempering must be a name"),
        ],
    )
    def test_what_cannot_reach_one_is_refused(self, make, message):
        with pytest.raises(ConfigError, match=message):
            make()

    def test_adaptive_exponent_is_the_root_of_the_effective_sample_size(self):
        generator = torch.Generator().manual_seed(3)
        value = 6 * torch.randn(50, 40, generator=generator, dtype=torch.float64)
        weights = 0.3 * torch.randn(50, 40, generator=generator, dtype=torch.float64)
        before = torch.full((50,), 0.05, dtype=torch.float64)
        found = Adaptive(0.6).next(weights, value, 0.05 * value, before)
        share = effective_sample_size(weights + (found - 0.05)[:, None] * value) / 40
        inside = (found > 0.05 + 1e-9) & (found < 1)
        assert inside.sum() > 40
        torch.testing.assert_close(share[inside], torch.full_like(share[inside], 0.6), rtol=0, atol=1e-12)
        # where even the present exponent is too much it stays, and where 1 fits it is 1
        stuck = Adaptive(0.6).next(9 * weights, 50 * value, 10 * value, before + 0.15)
        assert (stuck >= 0.2 - 1e-12).all()
        assert (Adaptive(0.6).next(weights, 1e-3 * value, 0 * value, 0 * before) == 1).all()

    def test_an_adaptive_exponent_holds_back_where_a_full_one_would_cost_particles(self):
        settings = {"particles": 64, "ess_threshold": 0.0}
        held = run(TwistedSMC(tempering=Adaptive(0.97), **settings), groups=20)
        full = run(TwistedSMC(**settings), groups=20)
        assert held.claim["evidence"] == "consistent"
        lost = (full.ess < 0.97 * 64) & (full.ess > 0.5 * 64)
        assert lost[:-3].sum() > 40
        assert (held.ess[:-3][lost[:-3]] > full.ess[:-3][lost[:-3]]).all()


class TestProfile:
    def fit(self, noise: float = 0.0, scale: float = 1.0, offset: float = 0.0) -> Profile:
        """Rewards whose early values are the final one plus noise of a known share of its variance."""
        generator = torch.Generator().manual_seed(1)
        final = torch.randn(8, 500, 1, generator=generator, dtype=torch.float64)
        blur = noise**0.5 * torch.randn(8, 500, 3, generator=generator, dtype=torch.float64)
        rewards = scale * torch.cat([final + blur, final], -1) + offset
        errors = torch.tensor([3.0, 1.0, 2.0, 0.5], dtype=torch.float64).expand(8, 500, 4)
        return Profile.of_model(torch.linspace(0, 0.75, 4).double(), errors).with_reward(rewards)

    @pytest.mark.parametrize("noise", [0.0, 0.5, 3.0])
    def test_noise_in_early_rewards_lowers_the_slope_as_regression_says(self, noise):
        """Slope 1 / (1 + q) for noise of variance ratio q; its standard error over 4,000 pairs is 0.016."""
        profile = self.fit(noise)
        for slope, correlation in zip(profile.slope[:3], profile.correlation[:3], strict=True):
            assert slope == pytest.approx(1 / (1 + noise), abs=0.08)
            assert correlation == pytest.approx(1 / (1 + noise), abs=0.08)
        assert profile.slope[-1] == pytest.approx(1)
        assert profile.correlation[-1] == 1

    def test_scale_and_offset_of_the_reward_change_nothing_but_its_deviation(self):
        plain, scaled = self.fit(0.5), self.fit(0.5, 2.0, 3.0)
        assert scaled.slope == pytest.approx(plain.slope)
        assert scaled.correlation == pytest.approx(plain.correlation)
        assert scaled.reward_std == pytest.approx(2 * plain.reward_std)

    def test_quantiles_are_those_of_the_reward_at_every_level(self):
        """Unit normal plus noise; outer quantiles of 4,000 draws are known to 0.034 standard deviations."""
        profile = self.fit(3.0, 2.0, 1.0)
        assert len(profile.quantiles) == 4
        for deviation, row in zip((4.0, 4.0, 4.0, 2.0), profile.quantiles, strict=True):
            expected = [1 + deviation * NormalDist().inv_cdf(p) for p in PROBABILITIES]
            assert row == pytest.approx(expected, abs=0.17 * deviation)
        halfway = profile.on(torch.tensor([0.125, 0.75], dtype=torch.float64)).quantiles
        assert halfway[0] == pytest.approx([(a + b) / 2 for a, b in zip(*profile.quantiles[:2], strict=True)])
        assert halfway[1] == pytest.approx(profile.quantiles[3])

    def test_the_spread_never_grows(self):
        assert self.fit().spread == (3.0, 2.0, 2.0, 0.5)

    def test_exponents_are_half_slope_half_ramp_and_end_at_one(self):
        profile = Profile((0.0, 0.25, 0.5, 0.75), (1.0,) * 4, (0.0, 0.6, 0.9, 0.9), (0.0, 0.3, 0.8, 1.0))
        assert profile.exponents() == pytest.approx((0, 0.3 + 1 / 6, 0.45 + 1 / 3, 1.0))
        assert replace(profile, slope=None).exponents() == pytest.approx((0.5, 0.5 + 1 / 6, 0.5 + 1 / 3, 1))

    def test_the_schedule_puts_particles_where_the_reward_is_decided(self):
        steps = 20
        rho = tuple(0.0 if k < 12 else 1.0 for k in range(steps))
        profile = Profile(tuple(k / steps for k in range(steps)), (1.0,) * steps, rho, rho)
        shares = torch.tensor(profile.schedule(2.0))
        assert int(shares.argmax()) == 12
        free = shares - 0.5
        assert float(shares.mean()) == pytest.approx(1)
        assert float(free[12] / free.sum()) > 0.6

    def test_without_a_tilt_or_without_a_spread_the_schedule_is_flat(self):
        """And it tends there: shares differ by the square root of what little is decided."""
        rho = tuple(k / 19 for k in range(20))
        profile = Profile(tuple(k / 20 for k in range(20)), (1.0,) * 20, rho, rho)
        assert profile.schedule(0.0) == pytest.approx((1.0,) * 20)
        steps = tuple(0.0 if k < 12 else 1.0 for k in range(20))
        assert replace(profile, correlation=steps).schedule(0.0) == pytest.approx((1.0,) * 20)

    def test_a_calibrated_schedule_spends_what_a_flat_one_does(self):
        flat, half = (
            run(CTS(particles=12, profile=PROFILE, schedule=schedule), groups=2)
            for schedule in ("flat", "half")
        )
        assert half.spent.nfe == flat.spent.nfe == [12 * STEPS] * 2
        sizes = [row["particles"] for row in half.trace]
        assert len(set(sizes)) > 2
        assert sum(sizes[:-1]) == 12 * STEPS

    def test_another_grid_is_interpolated_and_the_same_one_is_left_alone(self):
        times = torch.linspace(0, 0.875, 8, dtype=torch.float64)
        assert PROFILE.on(times) is PROFILE
        finer = PROFILE.on(torch.linspace(0, 0.9375, 16, dtype=torch.float64))
        assert finer.spread[::2] == pytest.approx(PROFILE.spread)
        assert finer.spread[1] == pytest.approx((PROFILE.spread[0] + PROFILE.spread[1]) / 2)
        assert finer.correlation[-1] == 1

    def test_saved_and_loaded(self, tmp_path):
        for profile in (PROFILE, self.fit()):
            assert Profile.load(profile.save(tmp_path / "profile.json")) == profile
        with pytest.raises(ConfigError, match="cannot be read"):
            CTS(profile=str(tmp_path / "nothing.json"))

    def test_a_reward_that_does_not_vary_cannot_be_calibrated(self):
        with pytest.raises(ConfigError, match="does not vary"):
            itscale.calibrate(gaussian(0.3, 0.8), lambda vectors: torch.ones(len(vectors)), steps=4, groups=2)

    def test_calibration_of_a_gaussian_finds_its_posterior_variance(self):
        """c_k is known; 2,000 trajectories know a variance to sqrt(2 / 2,000) = 3 %."""
        profile = itscale.calibrate(
            gaussian(0.4, STD), reward, steps=FINE, groups=4, trajectories=500, solver="2m-sde"
        )
        expected = torch.tensor(posterior_variance())
        found = torch.tensor(profile.spread)
        # the end point is the last denoised sample, whose own vagueness is missing from the distance
        middle = slice(0, 40)
        torch.testing.assert_close(found[middle], expected[middle], rtol=0.15, atol=1e-3)
        assert profile.slope[-1] == pytest.approx(1)
        # a linear reward of a posterior mean: slope 1, known to 0.03 where a third is decided
        assert min(profile.slope[25:]) > 0.85
        assert profile.nfe == 2000 * FINE


def test_cts_makes_its_profile_when_it_has_none_and_accounts_for_it_apart():
    result = run(CTS(particles=8), groups=3)
    assert result.spent.nfe == [8 * STEPS] * 3
    assert result.pilot.total("nfe") == 3 * 11 * STEPS  # 32 trajectories over three groups, rounded up
    assert result.claim == {"target": "tilted", "evidence": "unbiased"}


def test_gradient_methods_refuse_rewards_without_one():
    black_box = itscale.reward(name="black box", modality="vector")(lambda vectors: vectors[:, 0])
    for method in (TDS(), DAS(), CTS(drift="denoised"), TwistedSMC(guide="denoised", spread=SPREAD)):
        with pytest.raises(ConfigError, match=r"needs the reward's gradient, and 'black box' has none"):
            itscale.sample(gaussian(0.3, 0.8), reward=black_box, method=method, steps=STEPS)
    # the automatic drift looks for another way
    found = itscale.sample(
        gaussian(0.3, 0.8), reward=black_box, method=CTS(particles=8, profile=PROFILE), steps=STEPS
    )
    assert found.spent.backward_rows == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guide": "gradient"}, "guide must be one of none, network, denoised, population"),
        ({"guide": "denoised"}, "needs spread=, which itscale.calibrate measures"),
        ({"cap": 0.0}, "cap must be > 0"),
        ({"schedule": (1.0, 0.0)}, "relative numbers of particles > 0"),
        ({"ess_threshold": 2.0}, "ess_threshold"),
        ({"particles": 0}, "particles"),
        ({"tempering": "expo"}, "unknown tempering 'expo'.*Did you mean 'exponential'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises((ConfigError, UnknownName), match=message):
        TwistedSMC(**settings)


def test_lists_for_another_grid_are_refused_before_any_network_call():
    for settings in (
        {"schedule": (1.0,) * 5},
        {"tempering": (0.5, 1.0)},
        {"guide": "population", "spread": (1.0,)},
    ):
        with pytest.raises(ConfigError, match="steps"):
            run(TwistedSMC(**settings), groups=1)
    with pytest.raises(ConfigError, match="drift must be one of"):
        CTS(drift="popular")
    with pytest.raises(ConfigError, match="schedule must be 'flat' or 'half'"):
        CTS(schedule="quarter")
