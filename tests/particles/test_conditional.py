"""Conditional SMC leaves the law of paths invariant: chi-square on all 81; wrong variants are refused."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats

from itscale.errors import ConfigError
from itscale.particles import conditional_ancestors, conditional_uniforms, draw_parent
from itscale.particles.resampling import ancestors_in_place
from itscale.particles.schemes import systematic
from itscale.particles.weights import normalise
from tests.particles.state_space import C

ROWS = 400_000
PATHS = list(itertools.product(range(3), repeat=4))


def law_of_paths() -> torch.Tensor:
    weights = []
    for path in PATHS:
        p = C.m0[path[0]] * C.potential[0, path[0]]
        for k in range(1, 4):
            p = p * C.kernel[path[k - 1], path[k]] * C.potential[k, path[k]]
        weights.append(float(p))
    law = torch.tensor(weights, dtype=torch.float64)
    return law / law.sum()


def draw_paths(generator: torch.Generator) -> torch.Tensor:
    """Exact draws (rows, 4)."""
    index = torch.multinomial(law_of_paths(), ROWS, replacement=True, generator=generator)
    return torch.tensor(PATHS)[index]


def sweep(paths: torch.Tensor, n: int, ancestors, ancestor_sampling: bool, seed: int) -> torch.Tensor:
    """One sweep from each path; ``ancestors(log_weights, parent, u)`` decides who descends from whom."""
    g = torch.Generator().manual_seed(seed)
    x = C.initial(ROWS, n, g)
    x[:, 0] = paths[:, 0]
    history = [x]
    lineage = []
    lw = C.log_g(x, 0)
    for k in range(1, 4):
        parent = torch.zeros(ROWS, dtype=torch.int64)
        if ancestor_sampling:
            u = torch.rand(ROWS, dtype=torch.float64, generator=g)
            parent = draw_parent(lw + C.kernel[x, paths[:, k, None]].log(), u)
        index = ancestors(
            lw, parent, torch.rand(ROWS, conditional_uniforms(n), dtype=torch.float64, generator=g)
        )
        x = C.move(x.gather(-1, index), g)
        x[:, 0] = paths[:, k]
        history.append(x)
        lineage.append(index)
        lw = C.log_g(x, k)
    line = draw_parent(lw, torch.rand(ROWS, dtype=torch.float64, generator=g))[:, None]
    out = [history[-1].gather(-1, line)]
    for states, index in zip(history[-2::-1], lineage[::-1], strict=True):
        line = index.gather(-1, line)
        out.append(states.gather(-1, line))
    return torch.cat(out[::-1], 1)


def chi_square(paths: torch.Tensor) -> float:
    code = (paths * torch.tensor([27, 9, 3, 1])).sum(1)
    expected = law_of_paths() * ROWS
    return float((((torch.bincount(code, minlength=81) - expected) ** 2) / expected).sum())


LIMIT = float(stats.chi2.isf(1e-6, 80))  # 158


@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
@pytest.mark.parametrize("ancestor_sampling", [False, True])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_sweep_from_exact_paths_gives_exact_paths(scheme, ancestor_sampling, n):
    assert float((law_of_paths() * ROWS).min()) > 10  # cells large enough for the test
    start = draw_paths(torch.Generator().manual_seed(n))

    def ancestors(lw, parent, u):
        return conditional_ancestors(lw, parent, u, scheme)

    after = sweep(start, n, ancestors, ancestor_sampling, seed=10 + n)
    assert chi_square(after) < LIMIT
    assert float((after != start).any(1).double().mean()) > 0.1  # and it moves


def overwritten(lw, parent, u):
    """Slot 0 of a plain systematic draw, overwritten."""
    index = ancestors_in_place(systematic(normalise(lw), lw.shape[1], u[:, :1]))
    return torch.cat([parent[:, None], index[:, 1:]], 1)


def parent_afterwards(lw, parent, u):
    """The others drawn as if slot 0 descended from slot 0, the drawn parent put in afterwards."""
    index = conditional_ancestors(lw, torch.zeros_like(parent), u, "systematic")
    return torch.cat([parent[:, None], index[:, 1:]], 1)


@pytest.mark.parametrize(("wrong", "ancestor_sampling"), [(overwritten, False), (parent_afterwards, True)])
def test_wrong_orders_are_refused(wrong, ancestor_sampling):
    start = draw_paths(torch.Generator().manual_seed(1))
    found = max(chi_square(sweep(start, 3, wrong, ancestor_sampling, seed)) for seed in (4, 5, 6))
    assert found > LIMIT


@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
def test_the_retained_particle_keeps_slot_0_and_weight_zero_has_no_children(scheme):
    g = torch.Generator().manual_seed(0)
    lw = torch.randn(5000, 7, dtype=torch.float64, generator=g)
    lw[:, 3] = -math.inf
    parent = draw_parent(lw, torch.rand(5000, dtype=torch.float64, generator=g))
    assert (parent != 3).all()
    index = conditional_ancestors(lw, parent, torch.rand(5000, 8, dtype=torch.float64, generator=g), scheme)
    assert torch.equal(index[:, 0], parent)
    assert (index != 3).all()


def test_systematic_gives_each_particle_its_share_rounded_down_or_up():
    g = torch.Generator().manual_seed(0)
    lw = torch.randn(5000, 6, dtype=torch.float64, generator=g)
    parent = draw_parent(lw, torch.rand(5000, dtype=torch.float64, generator=g))
    index = conditional_ancestors(
        lw, parent, torch.rand(5000, 7, dtype=torch.float64, generator=g), "systematic"
    )
    counts = torch.zeros(5000, 6).scatter_add_(1, index, torch.ones(5000, 6))
    share = 6 * torch.softmax(lw, 1)
    assert ((counts >= share.floor() - 1e-9) & (counts <= share.ceil() + 1e-9)).all()


def test_other_schemes_have_no_conditional_form():
    with pytest.raises(ConfigError, match="multinomial or systematic, got 'ssp'"):
        conditional_ancestors(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), torch.rand(1, 4), "ssp")
