"""Search over the noises of the steps: against a plain loop, and what the winner's noise is used for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import BestOfN, EpsilonGreedy
from itscale.noise import Address, Noise, Purpose
from itscale.preparation import prepare
from itscale.solvers import Langevin
from tests.methods.test_rbf import lead, line, search
from tests.oracles import mixture_16d

STEPS, CHAINS, SEED = 5, 2, 3


def address(move: int, slot: int = 0, draw: int = 0) -> Address:
    return Address(*(torch.tensor([v]) for v in (0, move, slot, draw)))


class PlainLoop:
    """One chain after the other, one candidate at a time, as the algorithm is written down."""

    def __init__(self, method: EpsilonGreedy) -> None:
        self.model, self.method = mixture_16d(), method
        self.setup = prepare(self.model, process=itscale.SDE(), solver="ancestral", steps=STEPS)
        self.noise = Noise(SEED)

    def normal(self, purpose: int, move: int, slot: int, draw: int = 0) -> torch.Tensor:
        return self.noise.normal(purpose, address(move, slot, draw), (16,), torch.float64)

    def child(self, x: torch.Tensor, level: int, z: torch.Tensor) -> torch.Tensor:
        kernel, denoised = self.setup.kernel, self.model.denoised(x, float(self.setup.times[level]))
        a, c = float(kernel.a[0, level]), float(kernel.c[0, level])
        return a * x + float(kernel.b[0, level, 0]) * denoised + c * z

    def score(self, x: torch.Tensor, level: int) -> float:
        return float(line(self.model.denoised(x, float(self.setup.times[level]))))

    def chain(self, slot: int) -> torch.Tensor:
        x, move = self.normal(Purpose.INITIAL, 0, slot), 1
        m = self.method.candidates
        for level in range(STEPS - 1):
            pivot = self.normal(Purpose.MOVE, move, slot)
            best = self.score(self.child(x, level, pivot), level + 1)
            move += 1
            for _ in range(self.method.rounds):
                u = self.noise.uniform(Purpose.SELECT, address(move), 2 * CHAINS * m).reshape(2, CHAINS, m)
                tried = []
                for c in range(m):
                    z, rho = (
                        self.normal(Purpose.MOVE, move, slot, c),
                        self.method.radius * float(u[0, slot, c]),
                    )
                    if u[1, slot, c] >= self.method.epsilon:
                        z = (pivot + rho * z) / math.sqrt(1 + rho**2)
                    tried.append((self.score(self.child(x, level, z), level + 1), z))
                score, z = max(tried, key=lambda entry: entry[0])
                if score > best:
                    best, pivot = score, z
                move += 1
            x = self.child(x, level, pivot)
        return self.model.denoised(x, float(self.setup.times[STEPS - 1]))


@pytest.mark.parametrize(
    "method",
    [
        EpsilonGreedy(particles=CHAINS, rounds=3, candidates=4),
        EpsilonGreedy(particles=CHAINS, rounds=4, candidates=1, epsilon=0.0, radius=2.0),
        EpsilonGreedy(particles=CHAINS, rounds=1, candidates=5, epsilon=1.0),
    ],
    ids=repr,
)
def test_chains_in_one_batch_find_what_a_plain_loop_finds(method):
    result = itscale.sample(
        mixture_16d(),
        reward=line,
        method=method,
        process=itscale.SDE(),
        solver="ancestral",
        steps=STEPS,
        seed=SEED,
    )
    for slot in range(CHAINS):
        torch.testing.assert_close(
            result.samples[0, slot], PlainLoop(method).chain(slot)[0], rtol=1e-9, atol=1e-9
        )
    tries = (1 + method.rounds * method.candidates) * (STEPS - 1)
    assert result.spent.nfe == [CHAINS * (1 + tries)]
    assert result.spent.reward_calls == [CHAINS * tries]


@pytest.mark.parametrize("solver", ["ancestral", "2m-sde", "sde-heun", Langevin(corrections=2)], ids=str)
def test_a_chain_goes_where_the_winning_noise_has_led(solver):
    """The noise that is kept, put into the solver by hand, leads from each state to the next."""
    model, view = mixture_16d(), itscale.SDE()
    setup = prepare(model, process=view, solver=solver, steps=STEPS)
    seen: list[Any] = []
    itscale.sample(
        model,
        reward=line,
        method=EpsilonGreedy(particles=3, rounds=2, candidates=3),
        process=view,
        solver=solver,
        steps=STEPS,
        on_step=lambda step: seen.append(step.particles.rows),
    )
    for level in range(1, STEPS - 1):
        before, after = seen[level - 1], seen[level]
        at = setup.process.evaluate(before.x, setup.times[level])

        def look(y, where, rows=None):
            time = setup.times[where] if isinstance(where, int) else torch.tensor(where, dtype=torch.float64)
            return setup.process.evaluate(y, time)

        move = setup.kernel(at, before.history, level, look, after.noise)
        torch.testing.assert_close(move.x, after.x, rtol=1e-9, atol=1e-9)


def test_candidates_are_as_normal_as_any_noise():
    """Without selection, by a reward that knows no difference, the noises in use are N(0, I)."""
    kept: list[torch.Tensor] = []
    flat = itscale.reward(name="flat", modality="vector")(lambda vectors: vectors.new_zeros(len(vectors)))
    calls = [0]

    def rising(vectors):  # each score beats the one before, so the pivot always moves on
        calls[0] += 1
        return flat(vectors) + calls[0]

    itscale.sample(
        mixture_16d(),
        reward=itscale.reward(name="rising", modality="vector")(rising),
        method=EpsilonGreedy(particles=500, rounds=5, candidates=2, radius=1.0),
        process=itscale.SDE(),
        solver="ancestral",
        steps=3,
        on_step=lambda step: kept.append(step.particles.rows.noise) if step.level < 3 else None,
    )
    z = torch.cat(kept).flatten()
    error = 1 / math.sqrt(len(z))
    assert calls[0] == 2 * 6
    assert abs(float(z.mean())) < 5 * error
    assert abs(float(z.var()) - 1) < 5 * math.sqrt(2) * error


def test_more_rounds_are_better_at_a_higher_price_in_density():
    few, many = (
        search(EpsilonGreedy(particles=1, rounds=rounds), None, "linear", 40).best() for rounds in (1, 8)
    )
    assert lead(many.rewards.flatten(), few.rewards.flatten()) > 10
    model = mixture_16d(7)
    assert float(model.log_prob(many.samples.reshape(-1, 16)).mean()) < float(
        model.log_prob(few.samples.reshape(-1, 16)).mean()
    )


def test_at_equal_cost_it_beats_best_of_n():
    method = EpsilonGreedy(rounds=6, candidates=4)
    greedy, plain = (search(m, 500, "linear").best().rewards.flatten() for m in (method, BestOfN()))
    assert lead(greedy, plain) > 4


def test_what_cannot_work_is_refused():
    wrong: list[dict[str, Any]] = [
        *({name: 0} for name in ("particles", "rounds", "candidates", "radius")),
        {"epsilon": 1.5},
        {"epsilon": -0.1},
        {"radius": math.inf},
    ]
    for bad in wrong:
        with pytest.raises(ConfigError):
            EpsilonGreedy(**bad)
    with pytest.raises(BudgetError, match=r"at least 1 particles need nfe = 730 and budget.nfe is 729"):
        search(EpsilonGreedy(), 729, "linear")
    with pytest.raises(ConfigError, match="needs noise"):
        search(EpsilonGreedy(), 1000, "linear", process=itscale.ODE(), solver="ddim")
