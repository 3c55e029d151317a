"""Ascent on noises: gradients of whole samplers, closed-form optima, incumbents that are never lost."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import itscale
from itscale.ascent import Norm
from itscale.engine import NoiseSpace
from itscale.errors import BudgetError, ConfigError
from itscale.methods import DNO, BestOfN, ReNO, Unguided, ZeroOrder
from itscale.models import GaussianMixture
from itscale.preparation import prepare
from itscale.process import ODE, SDE, StudentT
from itscale.solvers import SOLVERS
from tests.engine.setting import make_engine
from tests.methods.test_rbf import lead
from tests.oracles import mixture_2d, mixture_16d

STEPS = 5
STOCHASTIC = [n for n, kind in SOLVERS.items() if kind().is_stochastic or hasattr(kind, "brings_noise")]
PLAIN = [name for name in SOLVERS if name not in STOCHASTIC and name != "scheduled"]


@itscale.reward(name="wave", modality="vector", differentiable=True)
def wave(vectors):
    return vectors.sin().sum(-1) + 0.3 * (vectors**2).sum(-1)


@itscale.reward(name="line", modality="vector", differentiable=True)
def line(vectors):
    return vectors @ torch.arange(1.0, 1 + vectors.shape[-1], dtype=vectors.dtype)


def view_of(solver: str) -> ODE | SDE:
    return SDE() if SOLVERS[solver]().is_stochastic else ODE()


def engine_for(solver: str, model: Any = None, reward: Any = wave, **more: Any):
    settings = {"steps": STEPS, "process": view_of(solver), "solver": solver, "grid": "log-snr", **more}
    return make_engine(model or mixture_2d(), reward, method=Unguided(), **settings)


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("solver", [*PLAIN, *STOCHASTIC])
def test_gradients_are_those_of_the_whole_sampler(solver, recompute):
    """Central differences in every noise of every move; adaptive steps do not change by so little."""
    engine, h = engine_for(solver), 1e-5
    space = NoiseSpace(engine)
    noises, made = space.run_and_return(space.draw(2), recompute)
    again = space.run(noises)
    torch.testing.assert_close(again.rows.x, made.rows.x, rtol=1e-12, atol=1e-12)
    z, slope = noises.rows.x, torch.empty_like(noises.rows.x)
    for j in range(z[0].numel()):
        ends = []
        for sign in (1, -1):
            x = z.clone()
            x.flatten(1)[:, j] += sign * h
            end = space.run(replace(noises, rows=noises.rows.with_(x=x))).rows.x
            ends.append(wave(end))
        slope.flatten(1)[:, j] = (ends[0] - ends[1]) / (2 * h)
    torch.testing.assert_close(noises.rows.gradient, slope, rtol=1e-5, atol=1e-6)
    assert float(slope.abs().max()) > 1e-3


class Curved(torch.nn.Module):
    """Keeps its very input for the way back."""

    def forward(self, x, t):
        return x * x - x


@pytest.mark.parametrize("solver", ["heun", "sde-heun", "edm-heun", "unipc", "rk4"])
def test_states_that_a_kernel_goes_on_to_change_are_kept_for_the_way_back(solver):
    model = itscale.models.wrap(Curved(), predicts="velocity", interpolant="linear", event_shape=(2,))
    space = NoiseSpace(engine_for(solver, model, grid="uniform"))
    gradients = [space.run_and_return(space.draw(2), again)[0].rows.gradient for again in (True, False)]
    assert gradients[0] is not None
    assert gradients[0].isfinite().all()
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m", "heun", "ancestral", "2m-sde", "langevin", "restart"])
def test_the_first_noise_is_that_of_an_unguided_run(solver):
    settings: dict[str, Any] = {
        "reward": wave,
        "steps": STEPS,
        "grid": "log-snr",
        "process": view_of(solver),
        "solver": solver,
        "groups": [0, 4],
        "seed": 3,
    }
    kind = ReNO if solver in PLAIN else DNO
    ours = itscale.sample(mixture_2d(), method=kind(particles=3, iterations=1), **settings)
    plain = itscale.sample(mixture_2d(), method=BestOfN(particles=3), **settings)
    torch.testing.assert_close(ours.samples, plain.samples, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.rewards, plain.rewards)
    assert ours.spent.nfe == plain.spent.nfe
    assert ours.spent.backward_rows == 0


def climb(method: Any, engine: Any, iterations: int) -> Any:
    plan = replace(method, iterations=iterations).plan(
        prepare(mixture_2d(), steps=engine.steps, process=ODE(), solver="ddim").cost, None
    )
    state = method.init(engine, plan)
    while state.left > 1:
        state = method.step(engine, state)
    return state


def test_reno_finds_the_optimum_in_closed_form():
    """One Gaussian and a linear reward: the sampler is ``x = A z + b``, so ``z = c a / |a|`` with

    ``tilt A |a| + w ((d - 1) / c - c) = 0``.
    """
    d, tilt, weight = 6, 0.7, 0.4
    model = GaussianMixture([1.0], [[0.3] * d], [0.6], dtype=torch.float64)
    engine = engine_for("ddim", model, line, tilt=tilt, steps=3, grid="uniform")
    space = NoiseSpace(engine)
    z = space.draw(1)
    zero, one = (space.run(replace(z, rows=z.rows.with_(x=z.rows.x * 0 + v))).rows.x[0, 0] for v in (0, 1))
    slope = float(one - zero)
    direction = torch.arange(1.0, 1 + d, dtype=torch.float64)
    pull = tilt * slope * float(direction.norm()) / weight
    length = (pull + math.sqrt(pull**2 + 4 * (d - 1))) / 2
    method = ReNO(particles=2, rate=1.0, momentum=0.8, clip=None, weight=weight)
    state = climb(method, engine, 80)
    found = state.noises.rows.x[:, 0]
    expected = length * direction / direction.norm()
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-6, atol=1e-6)
    # without the density nothing holds the noise
    free = climb(replace(method, weight=0.0, rate=0.1), engine, 40).noises.rows.x
    assert float(free.flatten(1).norm(dim=1).min()) > 3 * length


def test_dno_reaches_a_target_with_the_noises_of_all_steps():
    """A quadratic reward has its highest value, 0, at its centre, and many noises lead there."""
    center = torch.tensor([1.4, 1.6], dtype=torch.float64)
    near = itscale.reward(name="near", modality="vector", differentiable=True)(
        lambda vectors: -((vectors - center) ** 2).sum(-1)
    )
    engine = engine_for("ancestral", mixture_2d(), near, grid="uniform")
    state = climb(DNO(particles=4, rate=0.1, weight=0.0, clip=None), engine, 100)
    assert float(state.particles.reward.min()) > -1e-4
    start = NoiseSpace(engine).draw(4).rows.x
    moved = (state.noises.rows.x - start).flatten(2).norm(dim=2)
    assert (moved[:, 0] < 1e-12).all()  # from pure noise the first move of this solver keeps nothing
    assert (moved[:, 1:] > 0).all()


def test_the_probability_of_blocks_holds_noises_back():
    free, held = (
        itscale.sample(
            mixture_16d(),
            reward=line,
            method=DNO(particles=4, iterations=20, rate=0.5, weight=weight),
            steps=8,
            solver="ancestral",
            groups=3,
        )
        for weight in (0.0, 2.0)
    )
    assert (held.rewards.mean(1) < free.rewards.mean(1)).all()
    model = mixture_16d()
    densities = [float(model.log_prob(r.samples.reshape(-1, 16)).mean()) for r in (free, held)]
    assert densities[1] > densities[0] + 5


@pytest.mark.parametrize("rate", [0.3, 500.0])
def test_the_best_sample_is_never_lost(rate):
    """Not even by steps that lead nowhere: far from the middle this reward falls without end."""
    hill = itscale.reward(name="hill", modality="vector", differentiable=True)(
        lambda vectors: -(vectors**2).sum(-1)
    )
    method = ReNO(particles=3, rate=rate, clip=1.0)
    results = [
        itscale.sample(
            mixture_2d(), reward=hill, method=replace(method, iterations=i), steps=STEPS, groups=4
        ).rewards
        for i in (1, 2, 4, 8)
    ]
    for fewer, more in itertools.pairwise(results):
        assert (more >= fewer).all()
    if rate < 1:
        assert (results[-1] > results[0]).any()


def test_samples_made_for_a_gradient_count_as_answers():
    method = ReNO(particles=2, iterations=3, rate=1e-9, gradient=ZeroOrder(directions=6, spread=0.5))
    result = itscale.sample(mixture_2d(), reward=wave, method=method, steps=STEPS, groups=5)
    first = itscale.sample(
        mixture_2d(), reward=wave, method=replace(method, iterations=1), steps=STEPS, groups=5
    )
    assert (result.rewards > first.rewards).all()  # 12 neighbours each; the noise itself stays


def test_gradients_from_scores_have_the_mean_of_exact_ones():
    """A linear reward of an affine sampler is its own smoothing."""
    model = GaussianMixture([1.0], [[0.3] * 3], [0.6], dtype=torch.float64)
    engine, m, spread = engine_for("ancestral", model, line), 20_000, 0.1
    space = NoiseSpace(engine)
    z, made = space.run_and_return(space.draw(1), False)
    near = space.scatter(z, m, spread)
    gain = (space.run(near).reward - made.reward).reshape(2, 1, m)
    estimate = space.slope(z, near, gain / (m * spread**2)).rows.gradient
    exact = z.rows.gradient
    assert estimate is not None
    assert exact is not None
    # each entry is a mean of m products with a variance of at most |g|^2 + g_i^2
    error = exact.flatten(1).norm(dim=1).max() * math.sqrt(2 / m)
    assert float((estimate - exact).abs().max()) < 4.89 * float(error)
    assert float(exact.abs().max()) > 20 * float(error)


def test_black_boxes_climb_without_a_gradient_and_are_refused_with_one():
    black = itscale.reward(name="black", modality="vector")(lambda vectors: vectors[:, 0].round(decimals=2))
    settings: dict[str, Any] = {"reward": black, "steps": STEPS, "groups": 20}
    for kind in (ReNO, DNO):
        with pytest.raises(ConfigError, match="needs the reward's gradient, and 'black' has none"):
            itscale.sample(mixture_2d(), method=kind(), **settings)
        method = kind(iterations=12, rate=0.3, clip=1.0, gradient=ZeroOrder(directions=6, spread=0.3))
        found = itscale.sample(mixture_2d(), method=method, **settings)
        plain = itscale.sample(
            mixture_2d(), method=BestOfN(particles=max(found.spent.nfe) // STEPS), **settings
        )
        assert lead(found.best().rewards.flatten(), plain.best().rewards.flatten()) > 3


@pytest.mark.parametrize(
    ("method", "view"), [(ReNO(rate=0.5, clip=1.0), ODE()), (DNO(rate=0.3), SDE())], ids=["reno", "dno"]
)
def test_at_equal_rows_it_beats_best_of_n(method, view):
    """A backward row counts as two."""
    climbed, plain = (
        itscale.sample(
            mixture_16d(7),
            reward=line,
            method=m,
            process=view,
            budget=itscale.Budget(model_rows=1000),
            steps=10,
            groups=20,
        )
        for m in (method, BestOfN())
    )
    assert max(climbed.spent.model_rows) + 2 * climbed.spent.backward_rows // 20 <= 1000
    assert lead(climbed.best().rewards.flatten(), plain.best().rewards.flatten()) > 5


def test_what_the_way_back_evaluates_again_is_counted():
    def spent(**settings):
        method = ReNO(particles=2, iterations=4, rate=0.1, **settings)
        return itscale.sample(mixture_2d(), reward=wave, method=method, steps=STEPS, solver="heun").spent

    looks = prepare(mixture_2d(), steps=STEPS, process=ODE(), solver="heun").cost.trajectory()
    again, kept = spent(), spent(recompute=False)
    assert kept.nfe == [2 * 4 * looks]
    assert again.nfe == [2 * (4 * looks + 3 * (looks - 1))]
    assert kept.backward_rows == again.backward_rows == 2 * 3 * looks
    assert kept.reward_calls == again.reward_calls == [8]
    assert kept.decodes == again.decodes == [8]


def test_given_noise_is_where_the_ascent_starts():
    initial = torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    method = ReNO(particles=2, iterations=1)
    ours = itscale.sample(mixture_2d(), reward=wave, method=method, steps=STEPS, initial=initial)
    plain = itscale.sample(mixture_2d(), n=2, steps=STEPS, initial=initial)
    torch.testing.assert_close(ours.samples, plain.samples)


def test_a_reward_that_breaks_leaves_the_incumbents():
    calls = [0]

    def fickle(vectors):
        calls[0] += 1
        return torch.where((vectors[:, 0] > 0) & (calls[0] > 2), math.nan, vectors.sum(1))

    model = mixture_16d()
    reward = itscale.reward(name="fickle", modality="vector", differentiable=True)(fickle)
    result = itscale.sample(
        model, reward=reward, method=ReNO(particles=8, iterations=5, rate=0.1), steps=STEPS
    )
    assert result.rewards.isfinite().all()
    assert result.samples.isfinite().all()


def test_what_cannot_work_is_refused():
    wrong: list[dict[str, Any]] = [
        *({name: 0} for name in ("particles", "iterations", "rate", "clip")),
        {"momentum": 1.0},
        {"weight": -1.0},
        {"weight": math.inf},
        {"gradient": "none"},
    ]
    for bad in wrong:
        for kind in (ReNO, DNO):
            with pytest.raises(ConfigError):
                kind(**bad)
    for bad in ({"directions": 0}, {"spread": 0.0}):
        with pytest.raises(ConfigError):
            ZeroOrder(**bad)
    with pytest.raises(ConfigError, match="block must be a whole number"):
        DNO(block=0)
    model = mixture_2d()
    with pytest.raises(ConfigError, match=r"adds noise on the way; use process=ODE.*'dno'"):
        itscale.sample(model, reward=wave, method="reno", process=SDE(), steps=STEPS)
    with pytest.raises(ConfigError, match="DNO needs noise"):
        itscale.sample(model, reward=wave, method="dno", process=ODE(), steps=STEPS)
    with pytest.raises(ConfigError, match="block must be at most the 2 numbers of a state, got 3"):
        itscale.sample(model, reward=wave, method=DNO(block=3), steps=STEPS)
    with pytest.raises(ConfigError, match="keeps noises normal"):
        itscale.sample(
            model, reward=wave, method=ReNO(), process=ODE(prior=StudentT(9.0)), solver="heun", steps=STEPS
        )
    with pytest.raises(BudgetError, match=r"at least 1 iterations need nfe = 5 and budget.nfe is 4"):
        itscale.sample(model, reward=wave, method=ReNO(), budget=itscale.Budget(nfe=4), steps=STEPS)
    assert Norm().gradient(torch.zeros(1, 3)).isfinite().all()
