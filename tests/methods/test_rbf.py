"""Rollover budget forcing: against a plain loop, chain by chain, and against other searches."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import RBF, SMC, SVDD, BestOfN, Profile, VerifierThreshold
from itscale.methods.profile import PROBABILITIES
from itscale.noise import Address, Noise, Purpose
from itscale.preparation import prepare
from tests.oracles import mixture_16d
from tests.solvers.drive import gaussian

STEPS, CHAINS, INITIAL, SEED = 6, 2, 5, 3


@itscale.reward(name="line", modality="vector")
def line(vectors):
    return vectors[:, 0] - vectors[:, 3]


def normal(purpose: int, move: int, slot: int) -> torch.Tensor:
    at = Address(*(torch.tensor([v]) for v in (0, move, slot, 0)))
    return Noise(SEED).normal(purpose, at, (16,), torch.float64)


class PlainLoop:
    """One chain after the other, one draw at a time, as the algorithm is written down."""

    def __init__(self, quota: int, rounds: int, threshold: str, initial: int = INITIAL) -> None:
        self.model = mixture_16d()
        self.setup = prepare(self.model, process=itscale.SDE(), solver="ancestral", steps=STEPS)
        self.threshold, self.initial = threshold, initial
        self.quota, self.rounds = quota, rounds
        self.draws = [0] * (STEPS - 1)

    def look(self, x: torch.Tensor, level: int) -> tuple[torch.Tensor, float]:
        denoised = self.model.denoised(x, float(self.setup.times[level]))
        return denoised, float(line(denoised).float())

    def chain(self, slot: int) -> tuple[torch.Tensor, float, int]:
        noises = [normal(Purpose.INITIAL, 0, slot * self.initial + i) for i in range(self.initial)]
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
    left = budget - INITIAL * CHAINS
    plain = PlainLoop(left // (STEPS * CHAINS), left // CHAINS, threshold)
    method = RBF(particles=CHAINS, initial=INITIAL, threshold=threshold)
    result = drawn(method, budget=itscale.Budget(nfe=budget))
    check_draws(result, plain)
    assert result.spent.nfe == result.spent.reward_calls == [INITIAL * CHAINS + plain.rounds * CHAINS]


@pytest.mark.parametrize("threshold", ["historical", "parent"])
@pytest.mark.parametrize("children", [1, 3, 12])
def test_the_best_child_of_each_level_rolls_over_as_a_plain_loop_does(threshold, children):
    plain = PlainLoop(children, children * (STEPS - 1), threshold, initial=1)
    method = SVDD(particles=CHAINS, children=children, selection="argmax", rollover=threshold)
    result = drawn(method)
    check_draws(result, plain)
    assert result.spent.nfe == result.spent.reward_calls == [CHAINS * (1 + children * (STEPS - 1))]
    *early, last = result.notes["draws per level"]
    assert last >= max(early)


def drawn(method, **settings) -> itscale.Result:
    return itscale.sample(
        mixture_16d(),
        reward=line,
        method=method,
        process=itscale.SDE(),
        solver="ancestral",
        steps=STEPS,
        seed=SEED,
        **settings,
    )


def check_draws(result: itscale.Result, plain: PlainLoop) -> None:
    for slot in range(CHAINS):
        sample, score, level = plain.chain(slot)
        torch.testing.assert_close(result.samples[0, slot], sample[0], rtol=1e-9, atol=1e-9)
        assert float(result.rewards[0, slot]) == pytest.approx(score, rel=1e-6)
        assert level == STEPS - 1
    assert result.notes["draws per level"] == plain.draws


def search(
    method, budget: int | None, kind: str, groups: int = 40, tilt: float = 1.0, **settings
) -> itscale.Result:
    model = mixture_16d(7)
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(16, generator=generator, dtype=torch.float64)
    center = 0.5 * model.means[0] + 0.5 * torch.randn(16, generator=generator, dtype=torch.float64)
    rewards = {
        "linear": lambda vectors: vectors @ (direction / direction.norm()),
        "quadratic": lambda vectors: -((vectors - center) ** 2).sum(-1),
        "count": lambda vectors: -((vectors > 0.5).sum(-1).double() - 14).abs(),
    }
    return itscale.sample(
        model,
        reward=itscale.reward(name=kind, modality="vector")(rewards[kind]),
        method=method,
        budget=None if budget is None else itscale.Budget(nfe=budget),
        steps=10,
        groups=groups,
        tilt=tilt,
        **{"process": itscale.SDE(), "solver": "ancestral", **settings},
    )


@pytest.mark.parametrize("kind", ["linear", "quadratic", "count"])
def test_at_equal_cost_it_beats_best_of_n_and_neither_the_best_child_nor_a_sharp_tilt(kind):
    """As published on such models: rewards of the answers, 40 runs each, at most 500 NFE."""
    best = [
        search(method, budget, kind, tilt=tilt).best().rewards.flatten()
        for method, budget, tilt in (
            (BestOfN(), 500, 1.0),
            (RBF(initial=25), 500, 1.0),
            (SVDD(particles=2, children=25, selection="argmax"), None, 1.0),
            (SMC(), 500, 16.0),
        )
    ]
    plain, rolled, greedy, sharp = best
    assert lead(rolled, plain) > 3
    assert lead(greedy, rolled) > (3 if kind == "linear" else 0)
    assert lead(sharp, rolled) > (0 if kind == "count" else 3)


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


def test_calibrated_bars_are_those_of_the_profile():
    kept = len(PROBABILITIES)
    quantiles = tuple(tuple(0.3 * level + q for q in range(kept)) for level in range(10))
    profile = Profile(tuple(k / 10 for k in range(10)), (1.0,) * 10, quantiles=quantiles)
    bars = [level[4] for level in quantiles]
    method = VerifierThreshold(quantile=PROBABILITIES[4], profile=profile)
    asked, given = search(method, 300, "linear", 3), search(RBF(accept=tuple(bars[1:])), 300, "linear", 3)
    assert torch.equal(asked.samples, given.samples)
    assert asked.notes == given.notes
    between = (PROBABILITIES[4] + PROBABILITIES[5]) / 2
    assert profile.thresholds(between) == pytest.approx([level[4] + 0.5 for level in quantiles])
    assert profile.thresholds(PROBABILITIES[0]) == pytest.approx([level[0] for level in quantiles])
    assert profile.thresholds(PROBABILITIES[-1]) == pytest.approx([level[-1] for level in quantiles])


def test_the_pilot_of_calibrated_bars_is_paid_for_apart():
    result = search(VerifierThreshold(particles=2), 200, "linear", 2)
    assert result.spent.nfe == [200] * 2
    assert result.pilot.total("nfe") == 32 * 10
    assert sum(result.notes["draws per level"][:-1]) < sum(result.notes["draws per level"])


def test_a_profile_holds_quantiles_of_early_rewards(tmp_path):
    """One Gaussian: the denoised sample at t has mean m and variance a^2 s^4 / (a^2 s^2 + (1 - a)^2), a = t.

    4096 trajectories know the outer ones to 0.033 standard deviations, and 50 steps cost 0.02.
    """
    reward = itscale.reward(name="first", modality="vector")(lambda vectors: vectors[:, 0])
    profile = itscale.calibrate(
        gaussian(0.4, 0.8), reward, steps=50, groups=4, trajectories=1024, solver="2m-sde"
    )
    normal = torch.special.ndtri(torch.tensor(PROBABILITIES, dtype=torch.float64))
    for level in (5, 20, 35, 49):
        t = profile.times[level]
        spread = t * 0.8**2 / math.sqrt(t**2 * 0.8**2 + (1 - t) ** 2)
        expected = 0.4 + spread * normal
        assert (torch.tensor(profile.quantiles[level]) - expected).abs().max() < 0.16 * spread
    back = Profile.load(profile.save(tmp_path / "profile.json"))
    assert back == profile


def test_bars_that_cannot_be_had_are_refused():
    bare = Profile((0.0, 0.5), (1.0, 0.5))
    with pytest.raises(ConfigError, match="thresholds need a profile with quantiles"):
        VerifierThreshold(profile=bare)
    with pytest.raises(
        ConfigError, match=r"quantile must be in \[0.05, 0.95\], which a profile holds, got 0.99"
    ):
        VerifierThreshold(quantile=0.99)
    with pytest.raises(ConfigError, match="rollover must be 'parent', 'historical' or None"):
        SVDD(selection="argmax", rollover="record")  # type: ignore[arg-type]
    for settings in ({}, {"selection": "argmax", "score_every": 2}):
        with pytest.raises(ConfigError, match="set selection='argmax', score_every=1 and no score_window"):
            SVDD(rollover="parent", **settings)  # type: ignore[arg-type]


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
