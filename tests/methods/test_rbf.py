"""Rollover budget forcing: against a plain loop, chain by chain, and against other searches."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import RBF, SVDD, BestOfN
from itscale.noise import Address, Noise, Purpose
from itscale.preparation import prepare
from tests.oracles import mixture_16d

STEPS, CHAINS, INITIAL, SEED = 6, 2, 5, 3


@itscale.reward(name="line", modality="vector")
def line(vectors):
    return vectors[:, 0] - vectors[:, 3]


def normal(purpose: int, move: int, slot: int) -> torch.Tensor:
    at = Address(*(torch.tensor([v]) for v in (0, move, slot, 0)))
    return Noise(SEED).normal(purpose, at, (16,), torch.float64)


class PlainLoop:
    """One chain after the other, one draw at a time, as the algorithm is written down."""

    def __init__(self, budget: int, threshold: str) -> None:
        self.model = mixture_16d()
        self.setup = prepare(self.model, process=itscale.SDE(), solver="ancestral", steps=STEPS)
        self.threshold = threshold
        self.quota = (budget - INITIAL * CHAINS) // (STEPS * CHAINS)
        self.rounds = (budget - INITIAL * CHAINS) // CHAINS
        self.draws = [0] * (STEPS - 1)

    def look(self, x: torch.Tensor, level: int) -> tuple[torch.Tensor, float]:
        denoised = self.model.denoised(x, float(self.setup.times[level]))
        return denoised, float(line(denoised).float())

    def chain(self, slot: int) -> tuple[torch.Tensor, float, int]:
        noises = [normal(Purpose.INITIAL, 0, slot * INITIAL + i) for i in range(INITIAL)]
        x = max(noises, key=lambda z: self.look(z, 0)[1])
        record, level = self.look(x, 0)[1], 0
        allowance, used, best = self.quota, 0, None
        kernel = self.setup.kernel
        for move in range(self.rounds):
            denoised = self.look(x, level)[0]
            z = normal(Purpose.MOVE, move + 2, slot)  # after the draw of the noises and their selection
            a, c = float(kernel.a[0, level]), float(kernel.c[0, level])
            child = a * x + float(kernel.b[0, level, 0]) * denoised + c * z
            score = self.look(child, level + 1)[1]
            self.draws[level] += 1
            used += 1
            if best is None or score > best[1]:
                best = (child, score)
            accepted = score > record
            if accepted:
                record = score
            if level + 1 < STEPS - 1:
                if accepted:
                    x, level, allowance, used = child, level + 1, allowance - used + self.quota, 0
                    best = None
                elif used >= allowance:
                    x, level, allowance, used = best[0], level + 1, self.quota, 0
                    if self.threshold == "parent":
                        record = best[1]
                    best = None
        return self.look(best[0], level + 1)[0], best[1], level + 1


@pytest.mark.parametrize("threshold", ["historical", "parent"])
@pytest.mark.parametrize("budget", [60, 141, 300])
def test_chains_in_one_batch_draw_what_a_plain_loop_draws(threshold, budget):
    plain = PlainLoop(budget, threshold)
    result = itscale.sample(
        mixture_16d(),
        reward=line,
        method=RBF(particles=CHAINS, initial=INITIAL, threshold=threshold),
        budget=itscale.Budget(nfe=budget),
        process=itscale.SDE(),
        solver="ancestral",
        steps=STEPS,
        seed=SEED,
    )
    for slot in range(CHAINS):
        sample, score, level = plain.chain(slot)
        torch.testing.assert_close(result.samples[0, slot], sample[0], rtol=1e-9, atol=1e-9)
        assert float(result.rewards[0, slot]) == pytest.approx(score, rel=1e-6)
        assert level == STEPS - 1
    assert result.notes["draws per level"] == plain.draws
    assert result.spent.nfe == result.spent.reward_calls == [INITIAL * CHAINS + plain.rounds * CHAINS]


def search(
    method, budget: int | None, kind: str, groups: int = 40, process=None, solver: str = "ancestral"
) -> itscale.Result:
    model = mixture_16d(7)
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(16, generator=generator, dtype=torch.float64)
    center = 0.5 * model.means[0] + 0.5 * torch.randn(16, generator=generator, dtype=torch.float64)
    rewards = {
        "linear": lambda vectors: vectors @ (direction / direction.norm()),
        "quadratic": lambda vectors: -((vectors - center) ** 2).sum(-1),
    }
    return itscale.sample(
        model,
        reward=itscale.reward(name=kind, modality="vector")(rewards[kind]),
        method=method,
        budget=None if budget is None else itscale.Budget(nfe=budget),
        process=process or itscale.SDE(),
        solver=solver,
        steps=10,
        groups=groups,
    )


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_at_equal_cost_it_beats_best_of_n_and_not_the_best_child_at_every_step(kind):
    """As published on such models: rewards of the answers, 40 runs each, at most 500 NFE."""
    best = [
        search(method, budget, kind).best().rewards.flatten()
        for method, budget in (
            (BestOfN(), 500),
            (RBF(initial=25), 500),
            (SVDD(particles=2, children=25, selection="argmax"), None),
        )
    ]
    plain, rolled, greedy = best
    assert lead(rolled, plain) > 3
    assert lead(greedy, rolled) > (3 if kind == "linear" else 0)


def lead(better: torch.Tensor, worse: torch.Tensor) -> float:
    """Difference of the means in standard errors."""
    return float((better.mean() - worse.mean()) / ((better.var() + worse.var()) / len(worse)).sqrt())


def test_what_is_saved_piles_up_on_the_last_level():
    result = search(RBF.paper(), 500, "linear")
    assert result.spent.nfe == [498] * 40
    *early, last = result.notes["draws per level"]
    assert sum(early) + last == (498 - 50) * 40
    assert last > 0.8 * (sum(early) + last)
    assert max(early) / 80 < 5  # a child improves on its parent about half of the time


def test_a_verifiers_threshold_accepts_whatever_passes_it():
    easy = search(RBF(accept=(-1e9,) * 9), 300, "linear", groups=3)
    assert easy.notes["draws per level"][:-1] == [6] * 8  # the first child always passes
    hard = search(RBF(accept=(1e9,) * 9), 300, "linear", groups=3)
    quota = (300 - 16) // 20
    assert hard.notes["draws per level"][:-1] == [6 * quota] * 8


def test_a_level_is_left_after_the_least_number_of_draws():
    result = search(RBF(accept=(-1e9,) * 9, min_draws=3), 300, "linear", groups=3)
    assert result.notes["draws per level"][:-1] == [18] * 8


def test_what_cannot_work_is_refused_with_the_least_budget():
    with pytest.raises(
        BudgetError, match=r"needs at least 34 NFE and it has 33; lower initial, particles or"
    ):
        search(RBF(), 33, "linear")
    assert search(RBF(), 34, "linear", groups=1).spent.nfe == [34]
    with pytest.raises(ConfigError, match="one evaluation a step"):
        itscale.sample(mixture_16d(), reward=line, method=RBF(), solver="sde-heun", steps=5)
    with pytest.raises(ConfigError, match="at least 2 steps"):
        itscale.sample(mixture_16d(), reward=line, method=RBF(), solver="ancestral", steps=1)
    with pytest.raises(ConfigError, match="accept has 2 entries; give one for each of 9"):
        search(RBF(accept=(0.0, 1.0)), 300, "linear")
    for bad in ({"initial": 0}, {"min_draws": 0}, {"draws": 0}, {"threshold": "best"}, {"spend": "some"}):
        with pytest.raises(ConfigError):
            RBF(**bad)
