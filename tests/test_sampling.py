"""The one entry: what it refuses before any network call, and what its defaults are."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError, UnknownName
from itscale.methods import SMC, SVDD, BestOfN, ImportanceSampling, NestedSMC, Unguided
from itscale.preparation import prepare
from itscale.process import ODE, SDE, Coefficient
from itscale.sampling import PILOT_PARTICLES, PILOT_SPREAD
from itscale.solvers import SDE2M, DPMSolver2M
from tests.engine.setting import CountingReward, Network, total, wrapped

UNIT = torch.zeros(1, 4, 3)

REFUSED = {
    "unknown method": ({"method": "smcc"}, UnknownName, r"unknown method 'smcc'.*Did you mean 'smc'"),
    "unknown solver": ({"solver": "huen"}, UnknownName, r"unknown solver 'huen'.*Did you mean 'heun'"),
    "unknown grid": ({"grid": "karas"}, UnknownName, r"unknown time grid 'karas'.*Did you mean 'karras'"),
    "unknown path": ({"process": SDE(interpolant="vpp")}, UnknownName, r"'vpp'.*Did you mean 'vp'"),
    "grid of a wrong kind": ({"grid": 3}, ConfigError, "time grid must be a name"),
    "method of a wrong kind": ({"method": 3}, ConfigError, "method must be a name"),
    "solver of a wrong kind": ({"solver": 3}, ConfigError, "solver must be a name"),
    "process by name": ({"process": "sde"}, ConfigError, r"process must be ODE\(\) or SDE"),
    "no steps": ({"steps": 0}, ConfigError, "steps must be a whole number >= 1, got 0"),
    "half a step": ({"steps": 2.5}, ConfigError, "steps must be a whole number"),
    "a true number of steps": ({"steps": True}, ConfigError, "steps must be a whole number"),
    "negative tilt": ({"tilt": -1.0}, ConfigError, "tilt must be finite and >= 0.*negate the reward"),
    "infinite tilt": ({"tilt": math.inf}, ConfigError, "tilt must be finite"),
    "tilt that is no number": ({"tilt": math.nan}, ConfigError, "tilt must be finite"),
    "tilt of words": ({"tilt": "automatic"}, ConfigError, "tilt must be finite.*or 'auto'"),
    "conditions of a wrong length": (
        {"condition": [1.0, 2.0], "groups": 3},
        ConfigError,
        "condition has 2 entries for 3 groups",
    ),
    "no groups": ({"groups": 0}, ConfigError, "groups must be a count >= 1"),
    "negative group": ({"groups": [0, -1]}, ConfigError, "groups must be"),
    "half a group": ({"groups": 1.5}, ConfigError, "groups must be"),
    "a group twice": ({"groups": [2, 5, 2]}, ConfigError, "groups holds an index twice"),
    "initial of a wrong event": (
        {"initial": torch.zeros(1, 4, 2)},
        ConfigError,
        r"initial must be unit noise of shape .*\(1, 4, 3\), got \(1, 4, 2\)",
    ),
    "initial of a wrong number": ({"initial": UNIT, "n": 5}, ConfigError, r"\(1, 5, 3\), got \(1, 4, 3\)"),
    "initial for other groups": ({"initial": UNIT, "groups": 2}, ConfigError, r"\(2, 4, 3\)"),
    "n and particles": ({"n": 3, "particles": 4}, ConfigError, "n=3 and particles=4 name the same number"),
    "method and particles": (
        {"method": SMC(particles=3), "particles": 4},
        ConfigError,
        "method.particles=3, but 4 were asked for",
    ),
    "no particles": ({"n": 0}, ConfigError, "particles must be a whole number >= 1"),
    "smc on an ode": ({"method": "smc", "process": ODE()}, ConfigError, "SMC needs noise.*process=SDE"),
    "smc in one step": ({"method": "smc", "steps": 1}, ConfigError, "needs noise.*at least 2 steps"),
    "smc without diffusion": (
        {"method": "smc", "process": SDE(diffusion="zero")},
        ConfigError,
        "SMC needs noise",
    ),
    "no reward": ({"method": "smc", "reward": None}, ConfigError, "SMC needs reward="),
    "no reward to scale by": ({"reward": None, "tilt": "auto"}, ConfigError, "tilt='auto' needs a reward"),
    "reward that is none": ({"reward": 3}, ConfigError, "cannot make a reward of 3"),
    "budget too small": ({"budget": itscale.Budget(nfe=4), "steps": 5}, BudgetError, "at least 1 particles"),
    "budget that is a mapping": ({"budget": {"nfe": 100}}, ConfigError, "budget must be a Budget"),
    "negative guidance": ({"guidance": -1.0}, ConfigError, "guidance must be a finite number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_settings_are_refused_before_any_network_or_reward_call(case):
    settings, error, message = REFUSED[case]
    network, reward = Network(), CountingReward()
    settings = {"reward": reward, "condition": 1.0, "steps": 5, **settings}
    with pytest.raises(error, match=message):
        itscale.sample(wrapped(network), **settings)
    assert network.rows == 0
    assert reward.samples == 0


@pytest.mark.parametrize("which", ["reward", "held_out"])
def test_a_reward_of_images_is_refused_for_a_model_of_vectors(which, monkeypatch):
    mixture = itscale.models.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])

    def refuse(*args):
        raise AssertionError("the network was called")

    monkeypatch.setattr(itscale.models.GaussianMixture, "predict", refuse)
    settings = {"reward": total, which: "2 * symmetry - 1", "method": BestOfN()}
    message = rf"{which} '2 \* symmetry - 1' is a reward of 'image', and the model GaussianMixture makes "
    message += "'vector'; use a reward of 'vector' or of 'any' samples, or a model of 'image'"
    with pytest.raises(ConfigError, match=message):
        itscale.sample(mixture, **settings)
    with pytest.raises(ConfigError, match=message):
        prepare(mixture.given(None), **settings)


def test_rewards_of_anything_and_models_of_unknown_samples_fit_together():
    mixture = itscale.models.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
    assert prepare(mixture, reward=total).method == SMC()
    assert prepare(wrapped(Network()), reward="symmetry").method == SMC()  # its decoder may make images


def test_an_empty_budget_cannot_be_written():
    with pytest.raises(ConfigError, match="budget is empty"):
        itscale.Budget()


@pytest.mark.parametrize(
    "method",
    [SMC(), NestedSMC(), SVDD(), SMC(particles=4, potential="max")],
    ids=repr,
)
def test_methods_that_resample_refuse_a_process_without_noise(method):
    assert method.needs.noise
    with pytest.raises(ConfigError, match="noise"):
        prepare(wrapped(Network()), reward=total, method=method, process=ODE())


@pytest.mark.parametrize("method", [Unguided(), BestOfN(), ImportanceSampling()], ids=repr)
def test_independent_trajectories_run_on_the_ode_by_default(method):
    setup = prepare(wrapped(Network()), reward=total, method=method)
    assert setup.view == ODE()
    assert setup.solver == DPMSolver2M()


def test_defaults_are_the_ode_without_a_reward_and_smc_on_the_sde_with_one():
    plain = prepare(wrapped(Network()))
    assert (plain.method, plain.view, plain.solver) == (Unguided(), ODE(), DPMSolver2M())
    assert plain.plan.particles == 8
    steered = prepare(wrapped(Network()), reward=total)
    assert (steered.method, steered.view, steered.solver) == (SMC(), SDE(), SDE2M())
    assert steered.plan.particles == 16
    assert len(steered.times) == 51


def test_an_sde_without_diffusion_takes_the_solver_of_the_ode():
    assert prepare(wrapped(Network()), process=SDE(diffusion=Coefficient("zero"))).solver == DPMSolver2M()


def test_one_number_has_two_names():
    samples = [
        itscale.sample(wrapped(Network()), steps=3, condition=1.0, **size).samples
        for size in ({"n": 5}, {"particles": 5}, {"n": 5, "particles": 5}, {"method": Unguided(particles=5)})
    ]
    for other in samples[1:]:
        assert torch.equal(other, samples[0])


def test_initial_noise_says_how_many_particles_there_are():
    result = itscale.sample(
        wrapped(Network()), steps=3, condition=1.0, initial=torch.randn(2, 7, 3), groups=2
    )
    assert result.samples.shape == (2, 7, 3)


def test_conditions_belong_to_their_groups():
    both = itscale.sample(wrapped(Network()), n=3, steps=3, condition=[0.0, 2.0], groups=2).samples
    for i, condition in enumerate((0.0, 2.0)):
        alone = itscale.sample(wrapped(Network()), n=3, steps=3, condition=condition, groups=[i]).samples
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(both[0], both[1])


def test_guidance_moves_the_prediction_away_from_the_unconditional_one():
    """One step from level 0 is the guided denoised sample, affine in the weight."""

    def ends(weight: float, condition: float | None = 1.0) -> torch.Tensor:
        return itscale.sample(
            wrapped(Network()), n=4, steps=1, condition=condition, guidance=weight, solver="ddim"
        ).samples

    without, conditional = ends(1.0, None), ends(1.0)
    torch.testing.assert_close(ends(0.0), without, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ends(3.0), without + 3 * (conditional - without), rtol=1e-4, atol=1e-5)


def test_automatic_tilt_is_printed_stored_and_paid_for_apart():
    reward = CountingReward(scale=5.0)
    result = itscale.sample(
        wrapped(Network()), reward=reward, tilt="auto", steps=4, condition=1.0, particles=6, seed=3
    )
    assert result.tilt == result.config["tilt"] > 0
    assert result.pilot is not None
    assert result.pilot.reward_calls == [PILOT_PARTICLES]
    assert reward.samples == PILOT_PARTICLES + sum(result.spent.reward_calls)
    # five times the reward, a fifth of the tilt
    other = itscale.sample(
        wrapped(Network()), reward=CountingReward(), tilt="auto", steps=4, condition=1.0, particles=6, seed=3
    )
    assert other.tilt == pytest.approx(5 * result.tilt, rel=1e-5)
    pilot = itscale.sample(
        wrapped(Network()),
        reward=CountingReward(),
        method=Unguided(particles=PILOT_PARTICLES),
        steps=4,
        condition=1.0,
        seed=3 ^ 0x70696C6F74,
    )
    assert other.tilt == pytest.approx(PILOT_SPREAD / float(pilot.rewards.std()), rel=1e-6)


def test_automatic_tilt_needs_a_reward_that_varies():
    with pytest.raises(ConfigError, match="does not vary"):
        itscale.sample(
            wrapped(Network()),
            reward=lambda latents: torch.ones(len(latents)),
            tilt="auto",
            steps=3,
            condition=1.0,
        )


def test_the_result_says_how_it_was_asked_for():
    result = itscale.sample(
        wrapped(Network()),
        reward=total,
        method=SMC(particles=4, score_every=2),
        process=SDE(interpolant="vp", diffusion="sigma"),
        solver="euler-maruyama",
        grid="karras",
        steps=6,
        tilt=2.0,
        condition=1.0,
        groups=[3, 1],
        seed=9,
        budget=itscale.Budget(nfe=100),
        pool=itscale.pools.Local(microbatch=16),
    )
    config = result.config
    assert config["method"]["name"] == "SMC"
    assert config["method"]["score_every"] == 2
    assert config["process"] == {"name": "SDE", "interpolant": "vp", "diffusion": "sigma"}
    assert config["solver"] == {"name": "EulerMaruyama"}
    assert config["grid"] == "karras"
    assert (config["steps"], config["tilt"], config["seed"], config["groups"]) == (6, 2.0, 9, [3, 1])
    assert config["condition"] == [1.0, 1.0]
    assert config["budget"]["nfe"] == 100
    assert config["pool"]["microbatch"] == 16
    assert config["reward"] == "total"
