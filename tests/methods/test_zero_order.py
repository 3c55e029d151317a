"""Search over initial noises: candidates stay normal, the incumbent is never lost, progress is felt."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import BestOfN, ZeroOrderSearch
from itscale.solvers.neighbour import Neighbour
from tests.engine.setting import make_engine
from tests.methods.problem import linear_reward
from tests.methods.test_rbf import lead
from tests.methods.test_rbf import search as search_by
from tests.oracles import mixture_2d


def search(method, budget, kind, groups=40):
    return search_by(method, budget, kind, groups, process=itscale.ODE(), solver="ddim")


def test_neighbours_are_as_normal_as_the_noise_and_as_near_as_asked():
    engine = make_engine(mixture_2d(), linear_reward, groups=1, steps=4)
    p = engine.look(engine.start(40_000))
    x, y = p.rows.x, engine.mutate(p, Neighbour(0.8)).rows.x
    error = 1 / math.sqrt(80_000)
    assert abs(float(y.mean())) < 5 * error
    assert abs(float(y.var()) - 1) < 5 * math.sqrt(2) * error
    assert abs(float((x * y).mean()) - 0.8) < 5 * math.sqrt(1 + 0.64) * error
    fresh = engine.mutate(p, Neighbour(0.0)).rows.x
    assert abs(float((x * fresh).mean())) < 5 * error


def test_the_incumbent_never_gets_worse():
    best = []
    for rounds in (1, 2, 4, 8):
        result = search(ZeroOrderSearch(particles=2, rounds=rounds), None, "linear", groups=10)
        assert result.spent.nfe == [10 * 2 * (1 + 4 * rounds)] * 10
        best.append(result.rewards)
    for fewer, more in itertools.pairwise(best):
        assert (more >= fewer).all()
    assert (best[-1] > best[0]).any()


def test_near_noises_beat_fresh_ones_on_a_smooth_reward():
    near = search(ZeroOrderSearch(particles=1), 1000, "linear", 60).best().rewards.flatten()
    fresh = search(BestOfN(), 1000, "linear", 60).best().rewards.flatten()
    assert lead(near, fresh) > 4


def test_it_searches_the_ode_by_default():
    result = itscale.sample(mixture_2d(), reward=linear_reward, method="zero-order", steps=5)
    assert result.config["process"]["name"] == "ODE"
    assert result.claim == {"target": None, "evidence": None}
    # a noise is a sample: the same noise gives the same answer
    assert torch.equal(
        result.samples,
        itscale.sample(mixture_2d(), reward=linear_reward, method="zero-order", steps=5).samples,
    )


def test_what_cannot_work_is_refused():
    for bad in ({"cosine": 1.0}, {"cosine": -0.1}, {"neighbours": 0}, {"rounds": 0}, {"particles": 0}):
        with pytest.raises(ConfigError):
            ZeroOrderSearch(**bad)
    with pytest.raises(ConfigError, match=r"adds noise on the way.*process=ODE"):
        search_by(ZeroOrderSearch(), 500, "linear")
    with pytest.raises(BudgetError, match=r"at least 1 rounds need nfe = 100 and budget.nfe is 99"):
        search(ZeroOrderSearch(), 99, "linear")
