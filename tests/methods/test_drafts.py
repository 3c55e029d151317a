"""Best-of-N by drafts: the right ones are finished, from the same noise, at the cost that was planned."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import BestOfN
from itscale.models import GaussianMixture
from itscale.solvers.leg import Leg
from tests.engine.setting import CountingReward, Network, smooth, wrapped

STEPS, N = 8, 12
MIXTURE = GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 1.0]], [0.4, 0.7], dtype=torch.float64)


@itscale.reward(name="first", modality="vector")
def first(vectors):
    return vectors[:, 0]


def drawn(method, **settings):
    noise = torch.randn(2, N, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    arguments = {"process": itscale.ODE(), "solver": "heun", "steps": STEPS, "groups": 2, **settings}
    return itscale.sample(MIXTURE, reward=first, method=method, initial=noise, **arguments), noise


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m"])
def test_finished_samples_are_those_of_the_noises_with_the_best_drafts(solver):
    """Drafts by a loop of their own; on the ODE a finished sample is the one that its noise always gives."""
    method = BestOfN(particles=N, draft_steps=3, finish=4, draft_solver=solver)
    result, noise = drawn(method)
    every, _ = drawn(BestOfN(particles=N))
    process = itscale.preparation.prepare(MIXTURE, process=itscale.ODE(), steps=STEPS).process
    start = process.t_start
    leg = Leg.build(process, [start + (1 - start) * k / 3 for k in range(3)] + [1.0], solver)
    for group in range(2):
        x = process.begin(noise[group], start)

        def look(y, t, rows=None):
            return process.evaluate(y, torch.tensor(t, dtype=torch.float64))

        drafts = leg(look(x, start), look)
        best = drafts[:, 0].sort(descending=True, stable=True).indices[:4]
        torch.testing.assert_close(result.samples[group], every.samples[group, best])


def test_a_draft_saves_the_first_look_and_the_plan_is_what_is_spent():
    network, counting = Network(), CountingReward()
    result = itscale.sample(
        wrapped(network),
        reward=smooth(counting),
        method=BestOfN(particles=N, draft_steps=3, finish=2),
        process=itscale.ODE(),
        solver="ddim",
        steps=STEPS,
        condition=1.0,
    )
    assert result.spent.nfe == [N * 3 + 2 * (STEPS - 1)] == [network.rows]
    assert result.spent.reward_calls == [N + 2] == [counting.samples]
    assert result.samples.shape[:2] == (1, 2)


def test_one_draft_step_scores_the_denoised_noise():
    result, _ = drawn(BestOfN(particles=N, draft_steps=1, finish=3))
    assert result.spent.nfe == [N + 3 * (2 * STEPS - 2)] * 2  # heun makes 2 T - 1 looks, one of them shared


@pytest.mark.parametrize("budget", [60, 100, 333])
def test_a_budget_pays_for_as_many_drafts_as_fit(budget):
    result = itscale.sample(
        MIXTURE,
        reward=first,
        method=BestOfN(draft_steps=4),
        process=itscale.ODE(),
        solver="ddim",
        steps=STEPS,
        budget=itscale.Budget(nfe=budget),
    )
    spent, more = result.spent.nfe[0], 4 + STEPS - 1  # one draft more, and perhaps one finished sample
    assert budget - more < spent <= budget
    drafts = result.spent.reward_calls[0] - result.particles
    assert result.particles == -(-drafts // 4)


def test_lineage_names_the_drafts():
    result, _ = drawn(BestOfN(particles=N, draft_steps=3, finish=4))
    assert result.ancestors is not None
    assert result.ancestors[0].shape == (2, 4)
    assert int(result.ancestors[0].max()) > 3  # among twelve


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"finish": 3}, "finish=3 is about drafts, and there are none"),
        (
            {"particles": 4, "draft_steps": 2, "finish": 5},
            "finish=5 is more than there are drafts, particles=4",
        ),
        ({"draft_steps": 0}, "draft_steps must be a whole number >= 1, got 0"),
        ({"draft_steps": 2, "draft_solver": "heun"}, "an inner solver is one of"),
    ],
)
def test_impossible_setting_names_field_value_and_fix(settings, said):
    with pytest.raises(ConfigError, match=said):
        BestOfN(**settings)


def test_compositions_and_too_small_budgets_are_refused():
    with pytest.raises(ConfigError, match="a composition is none"):
        itscale.sample(MIXTURE**2, reward=first, method=BestOfN(draft_steps=2), steps=STEPS)
    with pytest.raises(BudgetError, match="lower draft_steps, finish or steps"):
        itscale.sample(
            MIXTURE,
            reward=first,
            method=BestOfN(draft_steps=2, finish=4),
            steps=STEPS,
            budget=itscale.Budget(nfe=20),
        )
