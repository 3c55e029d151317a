"""Which shard holds which row: nobody moves who can stay, and nothing decides it but counts."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

Owners: TypeAlias = np.ndarray
"""(rows,) int64, the shard of every row."""


def contiguous(rows: int, shards: int) -> Owners:
    """Equal shares in order; the first ones take what is left over."""
    return np.repeat(np.arange(shards), capacities(rows, shards))


def capacities(rows: int, shards: int, wanted: np.ndarray | None = None) -> np.ndarray:
    """How many rows each shard is to hold: equal shares, and one more where most are wanted.

    Args:
        wanted: (shards,) rows that would stay if they could.
    """
    share = np.full(shards, rows // shards, dtype=np.int64)
    order = np.arange(shards) if wanted is None else np.argsort(-wanted, kind="stable")
    share[order[: rows % shards]] += 1
    return share


def place_children(home: Owners, parent: np.ndarray, shards: int, sites: np.ndarray | None = None) -> Owners:
    """Choose a shard for every child so that as few as possible leave their parent's.

    As many children move as shards have too many, ``sum_s max(0, children_s - capacity_s)``, and no choice
    moves fewer. Extra copies move before a parent's first child does, the largest families first, so that one
    copy of a state serves several children. Shards with too many are matched with those with too few, the
    largest difference first, on the same site if they can.

    Args:
        home: (children,) the shard of every child's parent.
        parent: (children,) the parent's slot.
        sites: (shards,) which machine each shard is on; None is one for all.

    Returns:
        (children,) the shard of every child.

    Reference:
        The bound and the rule are those of proportional allocation with local priority; Bolic, Djuric and
        Hong (2005), "Resampling algorithms and architectures for distributed particle filters", IEEE
        Transactions on Signal Processing 53(7).
    """
    count = np.bincount(home, minlength=shards)
    excess = count - capacities(len(home), shards, count)
    owner = home.copy()
    for source, destination, number in _transfers(excess, sites):
        here = np.flatnonzero((home == source) & (owner == source))
        owner[here[_leaving_first(parent[here])[:number]]] = destination
    return owner


def _transfers(excess: np.ndarray, sites: np.ndarray | None) -> list[tuple[int, int, int]]:
    """Match shards that have too many with shards that have too few: source, destination, rows."""
    excess = excess.copy()
    found = []
    for is_near in (True, False):
        for source in np.argsort(-excess, kind="stable"):
            for destination in np.argsort(excess, kind="stable"):
                if is_near and (sites is None or sites[source] != sites[destination]):
                    continue
                number = min(excess[source], -excess[destination])
                if number > 0:
                    found.append((int(source), int(destination), int(number)))
                    excess[source] -= number
                    excess[destination] += number
    return found


def _leaving_first(parent: np.ndarray) -> np.ndarray:
    """Order children so that extra copies of the largest families come first, and survivors last."""
    _, inverse, size = np.unique(parent, return_inverse=True, return_counts=True)
    is_first = np.zeros(len(parent), dtype=bool)
    is_first[np.unique(inverse, return_index=True)[1]] = True
    return np.lexsort((np.arange(len(parent)), inverse, -size[inverse], is_first))


def position_in_shard(owner: Owners) -> np.ndarray:
    """(rows,) how many rows of the same shard come before each row."""
    order = np.argsort(owner, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(owner[order]))[:-1]]) if len(owner) else owner
    position = np.empty(len(owner), dtype=np.int64)
    position[order] = np.arange(len(owner)) - start[owner[order]]
    return position
