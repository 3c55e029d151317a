"""Diffusion tree sampling and search: against plain loops, closed forms, and other methods."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import pytest
import torch

import itscale
from itscale.budget import Budget
from itscale.errors import BudgetError, ConfigError, RewardError
from itscale.methods import DTS, BestOfN, DTSStar
from itscale.methods.base import Claim
from itscale.methods.rollout_tree import ROOT, RolloutTree
from itscale.noise import Address, Noise, Purpose
from itscale.preparation import prepare
from tests.engine.setting import CountingReward, Network, wrapped
from tests.methods.problem import errors
from tests.methods.problem import run as run_mixture
from tests.oracles import mixture_16d
from tests.solvers.drive import gaussian

STEPS, SEED, TILT = 6, 3, 1.5


@itscale.reward(name="line", modality="vector")
def line(vectors):
    return vectors[:, 0] - vectors[:, 3]


@dataclass
class Node:
    """A state at a level, or the root at -1, with its children in the order in which they were made."""

    x: torch.Tensor | None
    level: int
    rollout: int
    children: list[Node] = field(default_factory=list)
    visits: int = 0
    reward: float = math.nan

    def value(self, tilt: float, is_greedy: bool) -> float:
        if not self.children:
            return tilt * self.reward
        values = [child.value(tilt, is_greedy) for child in self.children]
        return max(values) if is_greedy else math.log(sum(map(math.exp, values)) / len(values))


class PlainLoop:
    """One walker, one roll-out after the other, every value found anew."""

    def __init__(self, method: DTS | DTSStar, budget: int) -> None:
        self.method, self.left = method, budget
        self.model = mixture_16d()
        self.setup = prepare(self.model, process=itscale.SDE(), solver="ancestral", steps=STEPS)
        every = method.branch_every or 1
        self.levels = [k for k in range(STEPS - 1) if k % every == 0]
        self.root = Node(None, ROOT, -1)
        self.made: list[tuple[float, float]] = []  # reward and log-ratio of each roll-out
        while self.left:
            self.roll_out()

    def draw(self, purpose: int, move: int, count: int) -> torch.Tensor:
        at = Address(*(torch.tensor([v]) for v in (0, move, 0, 0)))
        if purpose == Purpose.SELECT:
            return Noise(SEED).uniform(purpose, at, count)[0]
        return Noise(SEED).normal(purpose, at, (count,), torch.float64)

    def choose(self, node: Node, u: float) -> tuple[Node, float]:
        count, greedy = len(node.children), isinstance(self.method, DTSStar)
        values = [child.value(TILT, greedy) for child in node.children]
        if isinstance(self.method, DTSStar):
            bound = [
                v + self.method.exploration * math.sqrt(math.log(node.visits) / child.visits)
                for v, child in zip(values, node.children, strict=True)
            ]
            return node.children[bound.index(max(bound))], 0.0
        share, total = self.method.defensive, sum(map(math.exp, values))
        odds = [(1 - share) * math.exp(v) / total + share / count for v in values]
        passed = 0.0
        for child, chance in zip(node.children, odds, strict=True):
            passed += chance
            if u < passed:
                return child, math.log(1 / count / chance)
        raise AssertionError("probabilities sum to one")

    def roll_out(self) -> None:
        number = len(self.made)
        act = number * (STEPS + 1)
        uniforms = self.draw(Purpose.SELECT, act, len(self.levels) + 1).tolist()
        node, path, ratio = self.root, [self.root], 0.0
        costs = {ROOT: STEPS, **{k: STEPS - 1 - k for k in self.levels}}
        affordable = [k for k, cost in costs.items() if self.reaches(self.left - cost)]
        while True:
            if node.level in costs:
                place = [ROOT, *self.levels].index(node.level)
                room = self.method.widening * (node.visits + 1) ** self.method.power
                is_open = len(node.children) < room or node.level == affordable[-1]
                if node.level in affordable and is_open:
                    break
                node, change = self.choose(node, uniforms[place])
                ratio += change
            else:
                node = node.children[0]
            path.append(node)
        self.left -= costs[node.level]
        kernel = self.setup.kernel
        for level in range(node.level + 1, STEPS):
            if level == 0:
                x = self.draw(Purpose.INITIAL, act, 16)
            else:
                z, k = self.draw(Purpose.MOVE, act + level, 16), level - 1
                denoised = self.model.denoised(node.x, float(self.setup.times[k]))
                x = kernel.a[0, k] * node.x + kernel.b[0, k, 0] * denoised + kernel.c[0, k] * z
            child = Node(x, level, number)
            node.children.append(child)
            node = child
            path.append(node)
        node.reward = float(line(self.model.denoised(node.x, float(self.setup.times[STEPS - 1]))).float())
        for visited in path:
            visited.visits += 1
        self.made.append((node.reward, ratio))

    def reaches(self, amount: int) -> bool:
        costs = (STEPS, *(STEPS - 1 - k for k in self.levels))
        return amount == 0 or any(amount >= c and self.reaches(amount - c) for c in costs)


def spied(method, trees: list[RolloutTree]):
    """The same method, which shows its finished tree."""

    class Spy(type(method)):
        def hand_out(self, engine, state, nodes):
            trees.append(state.tree)
            return super().hand_out(engine, state, nodes)

    return Spy(**{f.name: getattr(method, f.name) for f in fields(method)})


@pytest.mark.parametrize(
    "method",
    [
        DTS(walkers=1, branch_every=1),
        DTS(walkers=1, branch_every=2, defensive=0.0, widening=2.0, power=0.3, weights="tree"),
        DTSStar(walkers=1, branch_every=1, exploration=0.7),
        DTSStar(walkers=1, branch_every=3, exploration=0.0),
    ],
    ids=repr,
)
def test_one_walker_does_what_a_plain_loop_does(method):
    trees: list[RolloutTree] = []
    plain = PlainLoop(method, 61)
    result = itscale.sample(
        mixture_16d(),
        reward=line,
        method=spied(method, trees),
        budget=Budget(nfe=61),
        process=itscale.SDE(),
        solver="ancestral",
        steps=STEPS,
        seed=SEED,
        tilt=TILT,
    )
    (tree,) = trees
    rewards, ratios = zip(*plain.made, strict=True)
    assert tree.reward[0].tolist() == pytest.approx(rewards, rel=1e-6)
    assert tree.log_ratio[0].tolist() == pytest.approx(ratios, abs=1e-6)
    assert result.spent.nfe == [61]
    assert result.spent.reward_calls == [len(rewards)] == result.notes["roll-outs"]
    if isinstance(method, DTSStar):
        assert result.rewards[0].tolist() == pytest.approx(sorted(rewards)[::-1][:10], rel=1e-6)
        return
    if method.weights == "walk":
        total = sum(math.exp(TILT * r + ratio) for r, ratio in plain.made) / len(rewards)
        assert float(result.log_evidence) == pytest.approx(math.log(total), abs=1e-5)
    assert result.particles == 10
    assert set(result.rewards[0].tolist()) <= set(tree.reward[0].tolist())


def test_it_reaches_the_tilted_law_of_the_mixture():
    """At the cost of 256 particles, within what is asked of SMC (``test_convergence``)."""
    result = run_mixture(DTS(particles=256, walkers=64), groups=40)
    found = errors(result)
    # the steps alone move E r by -0.045 and log Z by -0.03; standard errors are 0.015, 0.025 and 0.02
    assert abs(found.expected_reward) <= 0.12
    assert abs(found.log_evidence) <= 0.10
    assert found.modes <= 0.08
    assert result.spent.nfe == [256 * 50] * 40
    assert min(result.notes["roll-outs"]) > 280


def test_a_constraint_that_rules_samples_out_is_kept():
    """exp(tilt r) is the indicator of x > 0.8, which about one in four passes: log Z is the log of that."""
    result = itscale.sample(
        gaussian(0.3, 0.8),
        reward=lambda vectors: torch.where(vectors[:, 0] > 0.8, 0.0, -torch.inf),
        method=DTS(particles=32, defensive=0.5),
        steps=8,
        groups=300,
        process=itscale.SDE(),
        solver="ancestral",
    )
    plain = itscale.sample(
        gaussian(0.3, 0.8), n=20_000, steps=8, process=itscale.SDE(), solver="ancestral", seed=9
    )
    share = (plain.samples > 0.8).double().mean()
    evidence = result.log_evidence.exp()  # 0 where no roll-out has passed
    error = math.hypot(float(evidence.std()) / 300**0.5, float(share * (1 - share) / 20_000) ** 0.5)
    assert abs(float(evidence.mean() - share)) <= 4.89 * error
    alive = result.log_weights > -torch.inf
    assert (result.samples[..., 0][alive] > 0.8).all()


@pytest.mark.parametrize("solver", ["2m-sde", "sde-heun"])
@pytest.mark.parametrize("limit", [91, 92, 107, 121])
@pytest.mark.parametrize("kind", [DTS, DTSStar])
def test_a_budget_is_spent_to_the_last_unit(kind, limit, solver):
    network, reward = Network(), CountingReward()
    result = itscale.sample(
        wrapped(network),
        reward=reward,
        method=kind(walkers=3, branch_every=1),
        steps=7,
        condition=1.0,
        groups=3,
        budget=Budget(nfe=limit),
        solver=solver,
    )
    assert result.spent.nfe == [limit] * 3
    assert network.rows == 3 * limit
    assert reward.samples == sum(result.spent.reward_calls) == sum(result.notes["roll-outs"])
    assert result.particles == limit // (7 if solver == "2m-sde" else 12)


def test_reward_calls_end_a_run_too():
    result = itscale.sample(
        wrapped(Network()),
        reward=CountingReward(),
        method=DTS(particles=8, branch_every=1),
        steps=7,
        condition=1.0,
        groups=2,
        budget=Budget(nfe=500, reward_calls=23),
    )
    assert result.spent.reward_calls == [23, 23]
    assert max(result.spent.nfe) <= 23 * 7


def test_what_cannot_work_is_refused():
    settings = {"reward": CountingReward(), "steps": 7, "condition": 1.0}
    with pytest.raises(
        BudgetError, match=r"10 particles need nfe = 70 and budget.nfe is 69: lower particles"
    ):
        itscale.sample(wrapped(Network()), method=DTS(particles=10), budget=Budget(nfe=69), **settings)
    with pytest.raises(ConfigError, match="leave initial out"):
        itscale.sample(wrapped(Network()), method=DTS(particles=2), initial=torch.zeros(1, 2, 3), **settings)
    with pytest.raises(ConfigError, match="DTS needs noise"):
        itscale.sample(wrapped(Network()), method=DTS(), process=itscale.ODE(), solver="ddim", **settings)
    nothing = {**settings, "reward": lambda latents: torch.full((len(latents),), torch.nan)}
    with pytest.raises(RewardError, match="no valid score"):
        itscale.sample(wrapped(Network()), method=DTS(particles=2), **nothing)
    for bad in ({"power": 1.0}, {"power": 0.0}, {"widening": 0.0}, {"walkers": 0}, {"branch_every": 0}):
        for kind in (DTS, DTSStar):
            with pytest.raises(ConfigError, match=next(iter(bad))):
                kind(**bad)
    with pytest.raises(ConfigError, match="defensive"):
        DTS(defensive=1.5)
    with pytest.raises(ConfigError, match="weights must be 'walk' or 'tree'"):
        DTS(weights="leaves")
    with pytest.raises(ConfigError, match="exploration"):
        DTSStar(exploration=-1.0)


def test_claims_say_what_a_setting_keeps():
    assert DTS().claim == Claim("tilted", "consistent")
    assert DTS(weights="tree").claim == Claim("tilted", None)
    assert DTS(weights="tree", defensive=1.0).claim == Claim("tilted", "unbiased")
    assert DTSStar().claim == Claim(None)


def test_an_invalid_score_is_a_sample_of_no_weight():
    def sometimes(vectors):
        return torch.where(vectors[:, 0] > 0, vectors[:, 0], torch.nan)

    result = itscale.sample(
        gaussian(0.3, 0.8), reward=sometimes, method=DTS(particles=16), steps=8, groups=20, tilt=2.0
    )
    assert result.log_evidence.isfinite().all()
    assert (result.log_weights[result.rewards == -torch.inf] == -torch.inf).all()
    assert result.spent.invalid_rewards > 0
    searched = itscale.sample(
        gaussian(0.3, 0.8), reward=sometimes, method=DTSStar(particles=16), steps=8, groups=20, tilt=2.0
    )
    assert (searched.rewards.diff(dim=1) <= 0).logical_or(searched.rewards[:, 1:] == -torch.inf).all()
    assert searched.rewards[:, 0].isfinite().all()


def test_a_run_that_is_stopped_hands_out_the_walkers():
    method = DTS(particles=16, walkers=4)
    result = itscale.sample(
        gaussian(0.3, 0.8), reward=lambda x: x[:, 0], method=method, steps=8, on_step=lambda s: s.level < 5
    )
    assert result.truncated
    assert result.samples.shape == (1, 4, 1)
    torch.testing.assert_close(result.rewards, result.samples[..., 0].double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_greedy_search_beats_the_best_of_n_at_equal_cost(kind):
    model = mixture_16d(7)
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(16, generator=generator, dtype=torch.float64)
    center = 0.5 * model.means[0] + 0.5 * torch.randn(16, generator=generator, dtype=torch.float64)
    rewards = {
        "linear": lambda vectors: vectors @ (direction / direction.norm()),
        "quadratic": lambda vectors: -((vectors - center) ** 2).sum(-1) / 10,
    }
    found, plain = (
        itscale.sample(
            model,
            reward=itscale.reward(name=kind, modality="vector")(rewards[kind]),
            method=method,
            budget=Budget(nfe=500),
            process=itscale.SDE(),
            solver="ancestral",
            steps=10,
            groups=40,
        )
        .best()
        .rewards
        for method in (DTSStar(walkers=4), BestOfN())
    )
    lead = float((found.mean() - plain.mean()) / ((found.var() + plain.var()) / 40).sqrt())
    assert lead > 3


def test_states_are_kept_where_roll_outs_may_branch_off_only():
    sizes = {}
    for every in (1, 4):
        states = []

        class Spy(DTS):
            def hand_out(self, engine, state, nodes, states=states):
                states.append(state)
                return super().hand_out(engine, state, nodes)

        itscale.sample(
            gaussian(0.3, 0.8),
            reward=lambda x: x[:, 0],
            method=Spy(particles=32, branch_every=every),
            steps=9,
        )
        (state,) = states
        assert state.count == sum(len(rows) for rows in state.kept)
        sizes[every] = state.count
    assert sizes[1] == 32 * 9
    assert sizes[4] < 0.45 * sizes[1]  # levels 0, 4 and the last


def test_samples_belong_to_their_rewards_and_eves_are_counted():
    result = itscale.sample(
        gaussian(0.3, 0.8), reward=lambda x: x[:, 0], method=DTS(particles=32, power=0.3), steps=8, groups=3
    )
    torch.testing.assert_close(result.rewards, result.samples[..., 0].double(), rtol=1e-6, atol=1e-6)
    roots = result.notes["roll-outs from the root"]
    assert all(eves <= n for eves, n in zip(result.trace[-1]["unique_eves"], roots, strict=True))
