"""Mixtures, equal densities and the density estimator, on laws whose densities are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import itscale
from itscale.compose import equal_density, geometric_mean, guidance, mixture
from itscale.errors import ConfigError
from itscale.methods import FKC, RBF, SMC, SVDD, NestedSMC
from itscale.models import GaussianMixture
from itscale.process import ODE, SDE, SuperposedProcess

LATEST = 0.999
MODES = [[-1.5, 1.5], [1.5, 1.5]]


def law(means, path="vp", std=0.4):
    return GaussianMixture(
        [1.0] * len(means), means, [std] * len(means), interpolant=path, dtype=torch.float64
    )


def up_and_down(path="vp"):
    """Two modes above, two modes below."""
    return law(MODES, path), law([[x, -y] for x, y in MODES], path)


def four_modes(path="vp"):
    return law([*MODES, *([x, -y] for x, y in MODES)], path)


def late(path, steps, t_start):
    """Uniform times, the last look so late that the jump after it changes nothing."""
    times = torch.linspace(t_start, LATEST, steps, dtype=torch.float64)
    return torch.cat([times, torch.ones(1, dtype=torch.float64)])


def run(model, n=500, steps=100, **settings):
    settings = {"solver": "euler-maruyama", "process": SDE(), "grid": late, "seed": 1, **settings}
    return itscale.sample(model, n=n, steps=steps, **settings)


def looked_at(model, **settings):
    """A run, and the states of its last look, where log-densities are known."""
    seen = []

    def keep(step):
        if step.level == step.steps - 1:
            seen.append(step.particles.rows.x)

    result = run(model, on_step=keep, **settings)
    return result, seen[0]


def truth(models, x):
    return torch.stack([model.log_prob(x, LATEST) for model in models], dim=1)


# --- the estimator -----------------------------------------------------------------------------------------


def estimator_error(steps, n=500, **settings):
    model = four_modes()
    result, x = looked_at((model**1).corrected(density="ito", gauge="none"), n=n, steps=steps, **settings)
    assert result.log_densities.shape == (1, n, 1)
    off = result.log_densities[0, :, 0] - model.log_prob(x, LATEST)
    return float(off.mean()), float(off.std())


def test_the_estimator_finds_the_density_along_the_sde():
    """Measured at 300 steps: bias 0.04, standard deviation 0.22; without the normal law 0.05 and 0.67."""
    bias, spread = estimator_error(300)
    assert abs(bias) < 0.04 + 5 * 0.22 / math.sqrt(500)
    assert spread < 0.27  # five standard errors of a standard deviation, and kurtosis


@pytest.mark.slow
def test_the_error_of_the_estimator_falls_with_the_square_root_of_the_step():
    _, coarse = estimator_error(300, n=2000)
    bias, fine = estimator_error(1000, n=2000)
    assert abs(bias) < 0.06
    assert fine < 0.15
    assert coarse / fine > 1.6  # sqrt(10 / 3) = 1.83


def test_the_error_is_of_first_order_along_the_ode_with_exact_divergence():
    """What is summed has no noise: bias and spread halve with the step."""
    settings = {"process": ODE(), "solver": "ddim", "n": 100}
    model = four_modes()
    errors = []
    for steps in (250, 500):
        target = (model**1).corrected(density="ito", divergence="exact", gauge="none")
        result, x = looked_at(target, steps=steps, **settings)
        off = result.log_densities[0, :, 0] - model.log_prob(x, LATEST)
        errors.append(float(off.abs().mean()))
    assert errors[1] < 0.02
    assert errors[0] / errors[1] > 1.8


@pytest.mark.parametrize("diffusion", [0.5, 3.0], ids=["less noise", "more noise"])
def test_any_noise_will_do_with_divergences(diffusion):
    """A process with another noise: the divergence carries half of the difference of the squares."""
    model = four_modes()
    target = (model**1).corrected(density="ito", divergence="exact", gauge="none")
    process = SDE(diffusion=itscale.process.Natural(diffusion))
    result, x = looked_at(target, steps=300, n=300, process=process)
    off = result.log_densities[0, :, 0] - model.log_prob(x, LATEST)
    assert abs(float(off.mean())) < 0.25
    assert float(off.std()) < 0.45 * math.sqrt(max(1.0, diffusion))


def test_one_probe_has_the_divergence_for_its_mean():
    """The spread of a probe is twice the off-diagonal of the Jacobian, which is small here."""
    model = four_modes()
    target = (model**1).corrected(density="ito", divergence="hutchinson", gauge="none")
    result, x = looked_at(target, steps=200, n=300, process=ODE(), solver="ddim")
    off = result.log_densities[0, :, 0] - model.log_prob(x, LATEST)
    assert abs(float(off.mean())) < 0.05 + 5 * float(off.std()) / math.sqrt(300)
    # a look costs one row forwards, and one backwards that counts for two
    assert result.spent.model_rows[0] == 3 * 200 * 300


def test_densities_are_followed_under_the_drift_of_a_product():
    """A drift that is no expert's own."""
    a, b = up_and_down()
    product = (a * b).corrected(density="ito")
    result, x = looked_at(product, steps=400, method=FKC(particles=400, ess_threshold=0.0), n=None)
    off = result.log_densities[0] - truth((a, b), x)
    assert float(off.mean(0).abs().max()) < 0.3
    difference = off[:, 0] - off[:, 1]
    assert float(difference.std()) < 0.45
    assert abs(float(difference.mean())) < 5 * 0.45 / math.sqrt(400)
    assert len(result.trace) == 401
    assert torch.tensor(result.trace[200]["log_densities"]).shape == (1, 2)


# --- mixtures ----------------------------------------------------------------------------------------------


def shares_up(result):
    return float((result.states[0, :, 1] > 0).double().mean())


@pytest.mark.parametrize("density", ["ito", "exact"])
def test_a_mixture_has_the_shares_of_its_weights_and_the_width_of_its_experts(density):
    a, b = up_and_down()
    result = run(mixture(a, b, weights=(3, 1), density=density), n=1000, steps=150)
    assert abs(shares_up(result) - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 1000)
    widths = (result.states[0].abs() - 1.5).square().mean(0)
    assert float((widths - 0.16).abs().max()) < 0.16 * (5 * math.sqrt(2 / 1000) + 0.05)
    assert result.claim["target"] == "base"


@pytest.mark.slow
def test_a_mixture_at_full_size():
    a, b = up_and_down()
    result, x = looked_at(a | b, n=2000, steps=1000)
    assert 0.45 < shares_up(result) < 0.55
    widths = (result.states[0].abs() - 1.5).square().mean()
    assert abs(float(widths) / 0.16 - 1) < 0.05 + 5 * math.sqrt(2 / 4000)
    off = result.log_densities[0] - truth((a, b), x)
    own = off[torch.arange(2000), truth((a, b), x).argmax(1)]
    assert float(own.std()) < 0.4


def test_exact_densities_give_the_samples_of_the_mixture_itself():
    """The score is that of the mixture to rounding, so the path is."""
    a, b = up_and_down()
    one = run(mixture(a, b, weights=(1, 1), density="exact"), n=50, steps=20, solver="2m-sde")
    other = run(four_modes(), n=50, steps=20, solver="2m-sde", grid=lambda *g: one.times)
    torch.testing.assert_close(one.states, other.states, rtol=1e-9, atol=1e-9)


def test_experts_on_two_paths_are_joined_on_the_first():
    a, _ = up_and_down("vp")
    _, b = up_and_down("linear")
    result = run(mixture(a, b), n=500, steps=150)
    assert abs(shares_up(result) - 0.5) < 5 * math.sqrt(0.25 / 500)


def test_shares_follow_densities_temperature_and_weights():
    a, b = up_and_down()
    process = SuperposedProcess.of(mixture(a, b, weights=(3, 1), temperature=2.0), SDE())
    x, t = torch.zeros(1, 2, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    known = torch.tensor([[-4.0, -3.5, 0.0]], dtype=torch.float64)  # two log-densities, and no kappa yet
    here = process.evaluation(x, t, process.evaluate(x, t).raw, known)
    odds = 3 * math.exp(2.0 * -0.5)
    torch.testing.assert_close(here.shares[0, 0], torch.tensor(odds / (1 + odds), dtype=torch.float64))
    expected = here.shares[0, 0] * a.score(x, t) + here.shares[0, 1] * b.score(x, t)
    torch.testing.assert_close(here.score, expected)


def test_a_high_temperature_decides_and_claims_nothing():
    a, b = up_and_down()
    result = run(mixture(a, b, temperature=100), n=400, steps=100)
    assert abs(shares_up(result) - 0.5) < 5 * math.sqrt(0.25 / 400)
    assert result.claim["target"] is None


def test_a_mixture_runs_on_the_ode_with_divergences():
    a, b = up_and_down()
    result = run(mixture(a, b, divergence="exact"), n=300, steps=60, process=None, solver=None)
    assert abs(shares_up(result) - 0.5) < 5 * math.sqrt(0.25 / 300)
    widths = (result.states[0].abs() - 1.5).square().mean(0)
    assert float((widths - 0.16).abs().max()) < 0.16 * 5 * math.sqrt(2 / 300)


def test_a_tilted_mixture_by_smc():
    """``exp(tilt y)`` takes the shares to ``w_i exp(tilt m_i)`` for experts of one width."""
    a, b = up_and_down()
    tilt = 0.4

    def height(vectors):
        return vectors[:, 1]

    result = run(mixture(a, b).tilted(height, tilt), n=2000, steps=100, method=SMC())
    share = 1 / (1 + math.exp(-2 * tilt * 1.5))
    found = result.expect(lambda x: (x[:, 1] > 0).double()).value
    assert abs(found - share) < 5 * 2 * math.sqrt(share * (1 - share) / 2000)  # twice for resampling
    log_z = tilt**2 * 0.16 / 2 + math.log(math.cosh(tilt * 1.5))
    assert abs(float(result.log_evidence[0]) - log_z) < 5 * 0.6 / math.sqrt(2000) + 0.03
    assert result.claim == {"target": "tilted", "evidence": "unbiased"}


# --- equal densities ---------------------------------------------------------------------------------------


def test_equal_density_is_on_the_surface_and_the_product_around_it():
    a, b = up_and_down()
    result, x = looked_at(a & b, n=400, steps=200)
    known = truth((a, b), x)
    assert float((known[:, 0] - known[:, 1]).abs().median()) < 0.05
    assert float(result.states[0, :, 1].std()) < 0.005
    assert abs(float(x[:, 0].abs().mean()) - 1.5) < 0.1
    assert result.notes["largest kappa"] > 10
    assert result.claim == {"target": None, "evidence": None}
    product = run(a * b, n=None, steps=200, method=FKC(particles=1000))
    y = product.states[0, :, 1]
    spread = float((product.weights[0] @ y.square()).sqrt())
    assert abs(spread - 0.4 / math.sqrt(2)) < 0.03  # variance 0.08; both means, at +1.5 and -1.5, meet at 0


@pytest.mark.slow
def test_equal_density_at_full_size():
    a, b = up_and_down()
    result, x = looked_at(equal_density(a, b), n=500, steps=1000)
    known = truth((a, b), x)
    apart = (known[:, 0] - known[:, 1]).abs()
    assert float(apart.median()) < 0.05
    assert float(apart.quantile(0.9)) < 0.1
    assert float(result.states[0, :, 1].std()) < 0.005


@pytest.mark.parametrize("solver", ["euler-maruyama", "ancestral", "2m-sde"])
def test_the_estimates_are_equal_whatever_the_solver(solver):
    a, b = up_and_down()
    result, _ = looked_at(a & b, n=50, steps=30, solver=solver)
    found = result.log_densities[0]
    assert float((found[:, 0] - found[:, 1]).abs().max()) < 1e-6


def test_equal_density_is_the_published_update():
    """``kappa_2 = 1/2 - <z, D> / (2 G du |D|^2)`` with ``D = s_2 - s_1`` and the noise of the step, by hand.

    On a path without A, and with a noise increment of exactly ``2 G du``, so that no term is of another
    order; ``z`` is what the run drew.
    """
    a, b = up_and_down("ve")
    process = SuperposedProcess.of(a & b, SDE())
    x = torch.tensor([[0.3, 0.8], [-1.0, 0.2], [2.0, -0.4]], dtype=torch.float64)
    z = torch.tensor([[0.5, -1.0], [0.1, 0.7], [-0.3, 0.2]], dtype=torch.float64)
    t = torch.tensor(0.6, dtype=torch.float64)
    path, later = process.interpolant, 0.61
    squares = float(path.sigma(0.6) ** 2 - path.sigma(later) ** 2)  # 2 G du, integrated
    one, two = a.score(x, t), b.score(x, t)
    apart = two - one
    kappa = 0.5 - math.sqrt(squares) * (z * apart).sum(1) / (squares * apart.square().sum(1))
    by_hand = x + squares * (one + kappa[:, None] * apart) + math.sqrt(squares) * z
    here = process.evaluate(x, t)
    here = process.evaluation(x, t, here.raw, process.first_memo(x))
    blind = x + squares * (one + two) / 2 + math.sqrt(squares) * z
    moved, memo = process.settle(here, blind, later)
    torch.testing.assert_close(moved, by_hand, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(memo[:, 0], memo[:, 1], rtol=0, atol=1e-9)


def test_a_bias_shifts_the_surface():
    a, b = up_and_down()
    _, x = looked_at(equal_density(a, b, bias=3.0), n=300, steps=300)
    known = truth((a, b), x)
    assert (
        abs(float((known[:, 1] - known[:, 0]).mean()) - 3.0 * LATEST) < 0.2
    )  # first order in the step: 0.12


def test_three_experts_meet_where_all_are_equal():
    corners = [law([[math.cos(k), math.sin(k)]], std=0.5) for k in (0.0, 2.1, 4.2)]
    _, x = looked_at(equal_density(*corners), n=200, steps=300)
    known = truth(corners, x)
    assert float((known - known[:, :1]).abs().median()) < 0.05
    assert float(x.square().sum(1).sqrt().median()) < 0.05  # the centre of their circle


def test_equal_density_on_the_ode_needs_differences_of_divergences():
    """Experts of two widths: without their divergences the surface is missed."""
    a, b = law([[0.0, 1.0]], std=0.4), law([[0.0, -1.0]], std=0.8)
    settings = {"n": 100, "steps": 300, "process": ODE(), "solver": "ddim"}
    _, x = looked_at(equal_density(a, b, divergence="exact"), **settings)
    known = truth((a, b), x)
    assert float((known[:, 0] - known[:, 1]).abs().median()) < 0.1  # first order in the step: 0.05


def test_a_clamp_limits_how_far_a_step_is_completed():
    """With kappa within 1/2 +- c, a move is completed by at most ``c gain |s_2 - s_1|``."""
    a, b = up_and_down("ve")
    process = SuperposedProcess.of(equal_density(a, b, clamp=0.5), SDE())
    x, t = torch.tensor([[0.3, 0.8]], dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    here = process.evaluation(x, t, process.evaluate(x, t).raw, process.first_memo(x))
    moved, memo = process.settle(here, x + 1.0, 0.61)
    reach = 0.5 * process.estimate.gain(0.6, 0.61) * (b.score(x, t) - a.score(x, t)).norm()
    torch.testing.assert_close((moved - x - 1.0).norm(), reach)
    assert float(memo[0, 2]) == pytest.approx(1.0)


def test_what_a_clamp_leaves_undone_is_made_up_for_later():
    """The wanted difference is that of the estimates themselves, not of what a step adds to them."""
    a, b = up_and_down()
    free, tight = (looked_at(equal_density(a, b, clamp=c), n=200, steps=150) for c in (None, 3.0))
    assert tight[0].notes["largest kappa"] <= 3.5 + 1e-9
    assert free[0].notes["largest kappa"] > 100
    for _, x in (free, tight):
        known = truth((a, b), x)
        assert float((known[:, 0] - known[:, 1]).abs().median()) < 0.05


# --- how they run ------------------------------------------------------------------------------------------


def height(vectors):
    return vectors[:, 0]


@pytest.mark.parametrize("operator", ["or", "and"])
@pytest.mark.parametrize(
    "method",
    [
        SMC(particles=8),
        NestedSMC(particles=4, children=2),
        SVDD(particles=4, children=2),
        RBF(particles=2, initial=2),
    ],
    ids=lambda m: type(m).__name__,
)
def test_methods_steer_superpositions_for_what_they_planned(operator, method):
    a, b = up_and_down()
    target = a | b if operator == "or" else a & b
    setup = itscale.preparation.prepare(target, reward=height, method=method, steps=10)
    result = itscale.sample(target, reward=height, method=method, steps=10)
    assert result.spent.nfe == [setup.plan.nfe]
    assert result.spent.model_rows == [2 * setup.plan.nfe]
    if operator == "and":
        assert result.claim["target"] is None
    assert torch.isfinite(result.log_densities).all()


def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path):
    a, b = up_and_down()
    target = mixture(a, b)
    settings = {"n": 8, "steps": 8, "reward": height, "method": "smc"}
    whole = itscale.sample(target, **settings)

    def stop(step):
        if step.level == 4:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        itscale.sample(target, checkpoint=file, on_step=stop, **settings)
    rest = itscale.sample(target, checkpoint=file, **settings)
    assert torch.equal(rest.states, whole.states)
    assert torch.equal(rest.log_densities, whole.log_densities)


@pytest.mark.parametrize("divergence", [None, "hutchinson"])
def test_results_do_not_depend_on_the_batch(divergence):
    a, b = up_and_down()
    target = mixture(a, b, divergence=divergence)
    pools = [itscale.pools.Local(microbatch=size, bitwise=True) for size in (8, 8)]
    alone = itscale.sample(target, n=3, steps=6, groups=[1], pool=pools[0])
    beside = itscale.sample(target, n=3, steps=6, groups=[0, 1, 2], pool=pools[1])
    assert torch.equal(alone.states[0], beside.states[1])
    assert torch.equal(alone.log_densities[0], beside.log_densities[1])


def test_log_densities_are_saved_with_the_result(tmp_path):
    a, b = up_and_down()
    result = itscale.sample(a | b, n=4, steps=4)
    loaded = itscale.Result.load(result.save(tmp_path))
    assert torch.equal(loaded.log_densities, result.log_densities)


def test_conditions_of_one_network_are_superposed():
    model = itscale.load("digits")
    result = itscale.sample(model.given(3) & model.given(5), n=2, steps=4)
    assert result.spent.network_calls == 4
    assert result.log_densities.shape == (1, 2, 2)


def test_helpers_write_products():
    a, b = up_and_down()
    mean, guided = geometric_mean(a, b), guidance(a, b, 2.0)
    assert [term.exponent for term in mean.terms] == [0.5, 0.5]
    assert [term.exponent for term in guided.terms] == [2.0, -1.0]
    with pytest.raises(ConfigError, match="one weight > 0 for each"):
        geometric_mean(a, b, weights=(1.0,))


def test_what_cannot_be_superposed_is_refused():
    a, b = up_and_down()
    flat = law([[0.0]])
    for make, message in (
        (lambda: mixture(a), "at least two experts"),
        (lambda: equal_density(a), "at least two experts"),
        (lambda: a | flat, "one space"),
        (lambda: a & a, "same expert twice"),
        (lambda: mixture(a, b, weights=(1.0, 0.0)), "> 0"),
        (lambda: mixture(a, b, weights=(1.0, -2.0)), "> 0"),
        (lambda: mixture(a, b, weights=(1.0,)), "one entry per expert"),
        (lambda: mixture(a, b, temperature=0.0), "temperature"),
        (lambda: equal_density(a, b, bias=(1.0, 2.0)), "1 entries"),
        (lambda: equal_density(a, b, clamp=0.0), "clamp"),
        (lambda: mixture(a, b, density="exact", divergence="exact"), "belongs to density='ito'"),
        (lambda: (a | b) ** 2, "no powers"),
        (lambda: a * (a | b), "compose models only"),
        (lambda: mixture(a, b, weights=(1.0, 2.0)) | four_modes(), "join the experts first"),
        (lambda: a | 3, "joined with models"),
        (lambda: (a | b).given(3), "bind both to its experts"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


def test_joining_adds_experts():
    a, b = up_and_down()
    c = four_modes()
    assert (a | b | c).models == (a, b, c)
    assert (a & b & c).models == (a, b, c)
    assert replace(a | b).lean == (math.log(0.5), math.log(0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"process": ODE()}, "natural diffusion coefficient alone"),
        ({"process": SDE(diffusion="sigma")}, "natural diffusion coefficient alone"),
        ({"process": SDE(), "solver": "sde-heun"}, "looks aside within a step"),
        ({"method": "restart-smc", "reward": height}, "joins or redraws parts of paths"),
        ({"value": itscale.values.ManySample(), "reward": height}, "looks ahead"),
        ({"process": ODE(), "solver": itscale.solvers.TimeShift()}, "changes what one model is asked"),
    ],
)
def test_a_run_that_cannot_carry_the_estimate_is_refused(settings, message):
    a, b = up_and_down()
    with pytest.raises(ConfigError, match=message):
        itscale.sample(a & b, steps=8, **settings)
