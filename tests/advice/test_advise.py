"""``advise`` on mixtures where the right advice is known."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.advice import advise, predict, rules, run_pilot
from itscale.advice import pilot as pilots
from itscale.budget import Budget
from itscale.errors import BudgetError, ConfigError, UnknownName
from itscale.methods import CTS, SMC, SVDD, Profile, Unguided
from itscale.runs import MODELS, load_config
from itscale.scoring import as_reward
from tests.advice.settings import APART, DIRECTION, MIXTURE, hand_made, linear, rough, side

SOLVER = {"solver": "ancestral"}


def said(advice, words: str) -> bool:
    return any(words in reason for reason in advice.reasons)


def test_smooth_reward_is_followed_along_its_gradient():
    found = advise(MIXTURE, linear, 500, **SOLVER)
    assert isinstance(found.method, CTS)
    assert found.method.drift == "denoised"
    assert found.method.profile is found.profile
    assert (found.steps, found.particles, found.score_every) == (20, 25, 1)
    assert found.tilt == pytest.approx(rules.SPREAD / found.profile.reward_std, rel=1e-3)
    assert said(found, "50 steps would leave 10 particles")
    assert said(found, "not above 0.9")
    assert found.pilot.total("nfe") == found.pilot.total("reward_calls") == 128 * 20


def test_rough_reward_gets_its_particles_late_and_no_plain_values():
    found = advise(MIXTURE, rough, 500, **SOLVER)
    assert found.profile.correlation is not None
    assert found.profile.correlation[found.steps // 2] < rules.BLIND
    assert isinstance(found.method, CTS)
    assert (found.method.drift, found.schedule) == ("population", "half")
    assert said(found, "say next to nothing")
    assert advise(MIXTURE, rough, 500, goal="search", **SOLVER).schedule == "half"


def test_reward_known_early_needs_no_calibration():
    found = advise(APART, side, 500, **SOLVER)
    assert found.method == SMC(particles=25)
    assert said(found, "above 0.9: calibration gained nothing")


def test_evidence_puts_particles_where_the_reward_is_decided():
    assert advise(MIXTURE, linear, 500, **SOLVER).schedule == "flat"
    assert advise(MIXTURE, linear, 500, goal="evidence", **SOLVER).schedule == "half"


def test_expensive_reward_is_scored_at_a_few_levels(monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(pilots, "perf_counter", lambda: float(next(ticks)))  # a call takes a second
    found = advise(MIXTURE, linear, 500, steps=10, **SOLVER)
    assert isinstance(found.method, SMC)
    assert found.method.score_window is not None
    assert found.score_every == found.method.score_every > 1
    assert found.plan.reward_calls < found.plan.nfe / 2
    assert said(found, "more than 5")
    searched = advise(MIXTURE, linear, 60, goal="search", **SOLVER)
    assert isinstance(searched.method, SVDD)
    assert searched.plan.reward_calls < searched.plan.nfe


def test_small_budget_gives_fewer_steps_and_a_search_gives_one_chain():
    for budget in (30, 60):
        searched = advise(MIXTURE, rough, budget, goal="search", **SOLVER)
        assert searched.method == SVDD(particles=1, children=(budget - 1) // 9, selection="argmax")
        assert searched.steps == rules.SHORT
        assert searched.prediction is None
    sampled = advise(MIXTURE, rough, 60, **SOLVER)
    assert isinstance(sampled.method, CTS)
    assert (sampled.method.drift, sampled.schedule, sampled.particles) == ("none", "flat", 6)
    assert advise(MIXTURE, rough, 100, goal="search", **SOLVER).steps == 12  # 8 particles


def test_search_is_sharp_and_asks_for_a_held_out_reward():
    found = advise(MIXTURE, linear, 500, goal="search", **SOLVER)
    assert found.tilt == pytest.approx(rules.SHARP / found.profile.reward_std, rel=1e-3)
    assert said(found, "give a held_out reward")
    judged = advise(MIXTURE, linear, 500, goal="search", held_out=-linear, **SOLVER)
    assert said(judged, "correlates -1.00")
    assert not said(judged, "give a held_out reward")


def test_wanted_mean_is_reached_by_the_run():
    """E[r] of the tilted mixture in closed form; the pilot's tilt comes from 512 samples."""
    base = MIXTURE.expect_linear(DIRECTION)
    found = advise(MIXTURE, linear, 500, want=base + 0.8, trajectories=512, **SOLVER)
    target, _ = MIXTURE.tilted_linear(DIRECTION, found.tilt)
    # the mean of 512 rewards of sd 1.1 has error .05; few steps narrow the base law by some per cent
    assert target.expect_linear(DIRECTION) == pytest.approx(base + 0.8, abs=4.89 * 0.05)
    nothing = advise(MIXTURE, linear, 500, want=base - 1.0, **SOLVER)
    assert (nothing.tilt, nothing.method) == (0.0, Unguided(particles=25))


def test_predicted_error_holds_on_a_mixture():
    """Within errors between the Gaussian formula and the one scaled by the divergence of the tilted law."""
    method, settings = SMC(particles=25), {"steps": 12, **SOLVER}
    pilot = run_pilot(MIXTURE, as_reward(linear), [None], 512, **settings)
    guess = predict(pilot, method, 1.0, 25, 12)
    assert guess is not None
    result = itscale.sample(MIXTURE, reward=linear, method=method, tilt=1.0, groups=400, seed=4, **settings)
    z = (result.log_evidence - result.log_evidence.max()).exp()
    square = (z / z.mean() - 1) ** 2
    value, error = float(square.mean()), float(square.std()) / math.sqrt(len(z))
    exact, log_z = MIXTURE.tilted_linear(DIRECTION, 1.0)
    divergence = exact.expect_linear(DIRECTION) - log_z  # KL of the tilted law from the mixture, tilt 1
    ratio = 2 * divergence / float(pilot.covariance[-1, -1])
    slack = math.exp(4.89 * math.hypot(guess.log_error, error / value))
    assert min(ratio, 1 / ratio) * guess.relative_variance / slack < value
    assert value < max(ratio, 1 / ratio) * guess.relative_variance * slack
    assert slack < 2


def test_settings_run_and_spend_what_was_planned():
    found = advise(MIXTURE, rough, Budget(nfe=400), steps=10, trajectories=64, seed=3, **SOLVER)
    result = itscale.sample(MIXTURE, **found.settings())
    assert result.spent.nfe == [found.plan.nfe]
    assert result.spent.reward_calls == [found.plan.reward_calls]
    assert result.pilot is None  # it has its profile


def test_pilot_and_run_have_different_noise():
    pilot = run_pilot(MIXTURE, as_reward(linear), [None], 32, steps=5, seed=3, **SOLVER)
    run = itscale.sample(
        MIXTURE,
        reward=linear,
        method=Unguided(particles=32),
        process=itscale.SDE(),
        steps=5,
        seed=3,
        **SOLVER,
    )
    assert not set(pilot.rewards[:, -1].tolist()) & set(run.rewards[0].tolist())


class Conditional:
    """The mixture, whatever the condition."""

    def __getattr__(self, name):
        return getattr(MIXTURE, name)

    def encode(self, conditions):
        return None

    def to(self, device):
        return self


@itscale.reward(name="shifted", modality="vector")
def shifted(vectors, conditions):
    """What counts is the first coordinate, not the level that the condition sets."""
    return vectors[:, 0] + 100 * torch.tensor(conditions)


def test_conditions_are_tried_evenly_and_compared_within():
    listed = list(range(40))
    pilot = run_pilot(Conditional(), as_reward(shifted), listed, 96, steps=5, **SOLVER)  # type: ignore[arg-type]
    assert len(pilot.condition.unique()) == pilots.CONDITIONS
    assert len(pilot.rewards) == 96
    assert float(pilot.covariance[-1, -1]) < 10
    assert pilot.rewards[:, -1].max() > 3000  # conditions from the whole list


def test_settings_run_one_group_a_condition():
    found = advise(Conditional(), shifted, 50, steps=5, condition=[1, 2], trajectories=32, **SOLVER)  # type: ignore[arg-type]
    result = itscale.sample(Conditional(), **found.settings())  # type: ignore[arg-type]
    assert result.groups == 2
    assert result.spent.nfe == [found.plan.nfe] * 2


def test_a_score_that_is_missing_at_any_level_leaves_the_trajectory_out():
    @itscale.reward(name="early holes", modality="vector")
    def holes(vectors, is_final):
        return torch.where((vectors[:, 1] > 0.5) & (not is_final), torch.nan, vectors[:, 0])

    pilot = run_pilot(MIXTURE, as_reward(holes), [None], 256, steps=5, **SOLVER)
    assert 0 < pilot.invalid == 256 - len(pilot.rewards)
    assert bool(pilot.rewards.isfinite().all())


def test_standard_error_is_that_of_a_correlation():
    """sqrt(4 c (1 - c)^2 / m) for a squared correlation c of normal pairs, on average over pilots."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(40):
        final = torch.randn(256, generator=generator, dtype=torch.float64)
        early = final + torch.randn(256, generator=generator, dtype=torch.float64)
        errors.append(hand_made(torch.stack([early, final], 1)).standard_error(lambda p: p.correlation(0)))
    expected = math.sqrt(4 * 0.5 * 0.25 / 256)
    # a jackknife over 16 parts has relative spread 1 / sqrt(30) = .18, over 40 pilots .03, and sampling of c
    assert sum(errors) / 40 == pytest.approx(expected, rel=4.89 * 0.04)


def test_seconds_are_counted_by_the_clock(monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(pilots, "perf_counter", lambda: float(next(ticks)))
    pilot = run_pilot(MIXTURE, as_reward(linear), [None], 32, steps=5, **SOLVER)
    assert pilot.seconds_per_call == pytest.approx(5 / (5 * 32))  # five calls for 32 samples, a second each


def test_trajectories_without_scores_are_left_out_and_too_few_are_an_error():
    def holey(limit):
        @itscale.reward(name="holey", modality="vector")
        def function(vectors):
            return torch.where(vectors.norm(dim=1) > limit, torch.nan, vectors[:, 0])

        return function

    found = advise(MIXTURE, holey(6.0), 200, steps=8, **SOLVER)
    assert said(found, "trajectories without valid scores were left out")
    with pytest.raises(ConfigError, match="of 128 pilot trajectories had finite scores"):
        advise(MIXTURE, holey(3.5), 200, steps=8, **SOLVER)


def test_recipe_is_a_configuration_of_the_same_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def right(samples):\n    return samples[:, 0]\n")
    found = advise(
        MODELS["gaussian-mixture"](), "./mine.py:right", 300, steps=10, held_out="./mine.py:right", seed=7
    )
    recipe, profile = found.save("out/advice.yaml", model="gaussian-mixture")
    assert Profile.load(profile) == found.profile
    cell = load_config(recipe).cells[0]
    assert cell.method == found.method
    assert (cell.run.steps, cell.run.tilt, cell.run.seed) == (found.steps, found.tilt, 7)
    assert cell.run.budget == Budget(nfe=300)
    assert cell.values["held_out"] == {"name": "./mine.py:right"}
    found.save("advice.json", model={"name": "gaussian-mixture"})
    assert load_config("advice.json").cells[0].method == found.method


def test_recipe_needs_names():
    found = advise(APART, side, 200, steps=10)
    with pytest.raises(ConfigError, match="a recipe names its model"):
        found.recipe()
    with pytest.raises(ConfigError, match="has no name that a file can hold"):
        found.recipe(model="gaussian-mixture")
    assert found.recipe("gaussian-mixture", "./mine.py:side")["reward"] == "./mine.py:side"
    with pytest.raises(ConfigError, match=r"ends in .yaml"):
        found.save("advice.txt", model="gaussian-mixture")


def test_views_name_the_settings_and_the_reasons():
    found = advise(APART, side, 200, steps=10)
    for view in (repr(found), found._repr_html_()):
        assert "smc" in view
        assert "log evidence error" in view
        assert "calibration gained nothing" in view


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"goal": "serch"}, UnknownName, "unknown goal 'serch'.*Did you mean 'search'"),
        ({"tilt": 2.0, "want": 1.0}, ConfigError, "exclude each other"),
        ({"tilt": -1.0}, ConfigError, "tilt must be finite and >= 0"),
        ({"tilt": "sharp"}, ConfigError, "tilt must be finite and >= 0"),
        ({"trajectories": 31}, ConfigError, "trajectories must be at least 32"),
        ({"budget": Budget(seconds=5.0)}, ConfigError, "seconds alone plan nothing"),
        ({"budget": 9}, BudgetError, "at least 1 particles need nfe = 10"),
        ({"budget": 0}, ConfigError, "budget.nfe must be positive"),
        ({"process": itscale.ODE()}, ConfigError, "needs noise"),
        ({"condition": 3}, ConfigError, "takes no condition"),
        ({"reward": "ink"}, ConfigError, "is a reward of 'image'"),
        ({"held_out": "ink"}, ConfigError, "is a reward of 'image'"),
    ],
)
def test_mistakes_are_found_before_anything_is_evaluated(settings, error, message, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the model was evaluated")

    monkeypatch.setattr(type(MIXTURE), "predict", never)
    with pytest.raises(error, match=message):
        advise(MIXTURE, **{"reward": linear, "budget": 500, **settings})
