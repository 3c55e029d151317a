"""Encodings of several tensors are gathered, joined and moved as one; particles share what is equal."""

from __future__ import annotations

import torch

from itscale.models.conditions import (
    Conditions,
    as_tensor,
    is_same,
    joined,
    repeated,
    rows_of,
)

RED, BLUE, NONE = ({"prompt": torch.full((3, 2), v), "pooled": torch.full((4,), v)} for v in (1.0, 2.0, 0.0))


def test_equal_entries_are_stored_once():
    c = Conditions.of([RED, BLUE, RED])
    assert c.table["prompt"].shape == (2, 3, 2)
    assert c["pooled"][:, 0].tolist() == [1, 2, 1]
    assert len(c) == 3
    assert "mask" not in c


def test_rows_of_one_entry_are_a_view():
    c = rows_of(Conditions.of([RED, BLUE]), torch.tensor([1, 1, 1, 1]))
    assert c["prompt"].shape == (4, 3, 2)
    assert c["prompt"].stride(0) == 0
    assert c["prompt"].data_ptr() == c.table["prompt"][1].data_ptr()


def test_gathering_and_joining_follow_the_rows():
    c, other = Conditions.of([RED, BLUE], [NONE, RED]), Conditions.of([NONE])
    both = joined([repeated(other, 2), rows_of(c, torch.tensor([1, 0])), rows_of(c, slice(1, 2))])
    assert both["pooled"][:, 0].tolist() == [0, 0, 2, 1, 2]
    assert c.opposite["pooled"][:, 0].tolist() == [0, 1]
    assert rows_of(c, torch.tensor([1])).opposite["pooled"][:, 0].tolist() == [1]
    assert len(joined([c, c]).table["prompt"]) == 3  # a shared table is not copied


def test_tensors_are_treated_alike():
    t = torch.tensor([[1.0], [2.0]])
    assert rows_of(t, torch.tensor([1, 0])).tolist() == [[2], [1]]
    assert joined([t, t[:1]]).shape == (3, 1)
    assert repeated(t[:1], 4).shape == (4, 1)
    assert is_same(t, t.clone())
    assert not is_same(t, None)
    assert is_same(Conditions.of([RED]), Conditions.of([RED]))
    assert not is_same(Conditions.of([RED]), Conditions.of([BLUE]))


def test_small_networks_see_one_tensor():
    assert as_tensor(Conditions.of([RED, BLUE])).tolist() == [[1] * 4, [2] * 4]
    assert as_tensor(Conditions.of([{"prompt": RED["prompt"]}])).tolist() == [[1, 1]]
