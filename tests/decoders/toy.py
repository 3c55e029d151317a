"""Small joint laws with known answers."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from itscale.models import Enumerable
from itscale.scoring import Reward

L, V = 5, 4


class Toy(NamedTuple):
    """A law over 4^5 sequences and a reward on it, with a table of its values."""

    model: Enumerable
    rewards: Tensor
    reward: Reward


def joint(seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """Log-weights of a chain closed to a ring, in lexicographic order; and the generator after it."""
    rng = np.random.default_rng(seed)
    h, j, j2 = rng.normal(0, 0.6, (L, V)), rng.normal(0, 1.2, (L - 1, V, V)), rng.normal(0, 0.9, (V, V))
    x = np.stack(np.meshgrid(*[np.arange(V)] * L, indexing="ij"), -1).reshape(-1, L)
    log_p = sum(h[i][x[:, i]] for i in range(L)) + sum(j[i][x[:, i], x[:, i + 1]] for i in range(L - 1))
    return log_p + j2[x[:, 0], x[:, 4]], rng


@cache
def toy() -> Toy:
    """Model A."""
    log_p, rng = joint(7)
    model = Enumerable(torch.from_numpy(log_p).reshape((V,) * L))
    x = model.sequences.numpy()
    r = (x == 0).sum(1) + 1.5 * ((x[:, 1] == x[:, 3]) & (x[:, 2] == 2)) - (x[:, 0] == x[:, 4])
    r = r + rng.normal(0, 0.3, len(x))
    rewards = torch.from_numpy(r - r.mean())
    reward = Reward.of(lambda sequences: rewards[model.index(sequences)], name="table")
    return Toy(model, rewards, reward)


@cache
def other(seed: int = 8) -> Enumerable:
    """Another law on the same sequences."""
    return Enumerable(torch.from_numpy(joint(seed)[0]).reshape((V,) * L))


def tv(a: Tensor, b: Tensor) -> float:
    """Total variation."""
    return float((a - b).abs().sum() / 2)


def chain() -> Enumerable:
    """Model A by a name that a configuration can hold."""
    return toy().model


def zeros(sequences: Tensor) -> Tensor:
    """Reward: how many tokens are 0."""
    return (sequences == 0).sum(1).float()
