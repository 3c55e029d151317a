"""Lines of descent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from resampling_checks import generator

from itscale.errors import ConfigError
from itscale.particles import Genealogy, n_distinct


def simulate(groups, sizes, p_none, *seed):
    """Random ancestors, and the full histories copied along, which is what tracing must reproduce."""
    g = generator(groups, *seed)
    line = Genealogy(groups, sizes[0])
    states = [torch.rand(groups, sizes[0], 2, generator=g)]
    carried = states[0][:, :, None]
    for old, new in itertools.pairwise(sizes):
        if old == new and torch.rand(1, generator=g) < p_none:
            ancestors = None
        else:
            ancestors = torch.randint(0, old, (groups, new), generator=g)
            if old == new:  # some groups stay as they are
                ancestors[::2] = torch.arange(old)
        line = line.record(ancestors)
        states.append(torch.rand(groups, new, 2, generator=g))
        if ancestors is not None:
            carried = carried[torch.arange(groups)[:, None], ancestors]
        carried = torch.cat([carried, states[-1][:, :, None]], 2)
    return line, states, carried


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 4),
    sizes=st.lists(st.sampled_from([1, 3, 3, 6, 6]), min_size=1, max_size=9),
    p_none=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_traced_paths_equal_histories_copied_along(groups, sizes, p_none, seed):
    line, states, carried = simulate(groups, sizes, p_none, seed)
    assert line.size == sizes[-1]
    assert torch.equal(line.paths(states), carried)
    # slots point at generation 0 states: the eve's state is the first of the path
    eve_states = states[0][torch.arange(groups)[:, None], line.eves()]
    assert torch.equal(eve_states, carried[:, :, 0])


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 4),
    sizes=st.lists(st.sampled_from([1, 3, 3, 6, 6]), min_size=1, max_size=9),
    p_none=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_saved_genealogies_are_the_same(groups, sizes, p_none, seed):
    line, states, carried = simulate(groups, sizes, p_none, seed)
    arrays = line.to_arrays()
    assert all(isinstance(a, np.ndarray) for a in arrays.values())
    back = Genealogy.from_arrays(arrays)
    assert (back.groups, back.particles, len(back.steps)) == (groups, sizes[0], len(line.steps))
    assert torch.equal(back.trace(), line.trace())
    assert torch.equal(back.paths(states), carried)
    assert arrays["ancestors"].dtype == np.int32


def test_rows_that_stay_in_place_are_saved_as_a_flag():
    line = Genealogy(2, 3).record(torch.tensor([[0, 1, 2], [1, 1, 2]])).record(None)
    arrays = line.to_arrays()
    assert arrays["ancestors"].tolist() == [1, 1, 2]
    assert arrays["resampled"].tolist() == [[False, True], [False, False]]
    assert arrays["sizes"].tolist() == [3, 3, 3]


def test_trace_of_chosen_particles():
    line = Genealogy(1, 3).record(torch.tensor([[2, 0, 0]])).record(None).record(torch.tensor([[1, 1, 0]]))
    assert line.trace(torch.tensor([[2, 0]])).tolist() == [[[2, 0, 0, 2], [0, 1, 1, 0]]]
    assert line.eves().tolist() == [[0, 0, 2]]
    assert [line.n_lineages(k).item() for k in range(4)] == [2, 2, 2, 3]
    assert line.n_lineages(-1).item() == 3
    assert n_distinct(line.eves()).item() == 2


def test_n_lineages_counts_distinct_ancestors():
    line, _, _ = simulate(3, [6, 6, 3, 3, 6, 6], 0.3, 5)
    slots = line.trace()
    for k in range(6):
        expected = [len(set(row)) for row in slots[..., k].tolist()]
        assert line.n_lineages(k).tolist() == expected


def test_recording_returns_a_new_genealogy():
    start = Genealogy(1, 2)
    longer = start.record(torch.tensor([[1, 1]]))
    assert len(start.steps) == 0
    assert longer.steps[0].dtype == torch.int32


def test_errors_say_what_was_expected():
    with pytest.raises(ConfigError, match=r"for 2 groups: expected \(2, m\)"):
        Genealogy(2, 3).record(torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ConfigError, match="before the first step and after each one"):
        Genealogy(1, 3).record(None).paths([torch.zeros(1, 3)])
