"""How improbable the means and covariances of a noise's blocks are, over permutations of its entries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.noise import Address, Noise, Purpose
from itscale.types import State


@dataclass(frozen=True)
class BlockStatistics:
    """Mean over permutations of ``log p1 + log p2``, bounds on the probability of what the blocks show.

    The n entries of a noise, permuted, make m blocks of k (what is left over is dropped). For normal entries
    the blocks' mean exceeds ``M1 = |mean|`` with probability at most ``p1 = 2 exp(-m M1^2 / (2 k))``, and
    their second moments S differ from the identity by more than ``M2 = |S - I|`` (operator norm) with
    probability at most ``p2 = 2 exp(-m max(sqrt(1 + M2) - 1 - sqrt(k / m), 0)^2 / 2)``; both are at most 1.
    A typical noise pays little (``E log p1 = -1/8`` for k = 2), and for most orders the gradient is zero.

    Attributes:
        block: k.
        permutations: how many; drawn anew every ``turn``, the same for all rows.

    Reference:
        Tang et al. (2024), "Inference-Time Alignment of Diffusion Models with Direct Noise Optimization",
        arXiv:2405.18881, section 4; the second bound is Wainwright (2019), "High-Dimensional Statistics",
        theorem 6.1.
    """

    block: int = 2
    permutations: int = 16

    def __post_init__(self) -> None:
        for name, value in (("block", self.block), ("permutations", self.permutations)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be a whole number >= 1, got {value!r}")

    def orders(self, entries: int, turn: int) -> Int64[Tensor, "permutations used"]:
        """The permutations of a turn, cut to whole blocks."""
        used = entries // self.block * self.block
        zero = torch.zeros(self.permutations, dtype=torch.int64)
        at = Address(zero, zero + turn, zero, torch.arange(self.permutations))
        return Noise(0).uniform(Purpose.PERMUTE, at, entries).argsort(dim=1)[:, :used]

    def log_density(self, z: State, turn: int = 0) -> Float[Tensor, " rows"]:
        """Per row."""
        return self._both(z, turn)[0]

    def gradient(self, z: State, turn: int = 0) -> State:
        """Of ``log_density``, where it has one: the bounds have a kink where they reach 1."""
        return self._both(z, turn)[1]

    def _both(self, z: State, turn: int) -> tuple[Tensor, State]:
        flat = z.flatten(1).double()
        total, slope = torch.zeros(len(flat), dtype=flat.dtype, device=flat.device), torch.zeros_like(flat)
        for order in self.orders(flat.shape[1], turn).to(flat.device):
            blocks = flat[:, order].unflatten(1, (-1, self.block))
            for log_p, change in (self._mean(blocks), self._covariance(blocks)):
                total += log_p.clamp(max=0)
                change = torch.where((log_p < 0)[:, None, None], change, 0.0)
                slope.index_add_(1, order, change.flatten(1))
        return total / self.permutations, (slope / self.permutations).to(z.dtype).reshape(z.shape)

    def _mean(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """The first bound of blocks (rows, m, k), before it is cut at 1, and its gradient."""
        m, k = blocks.shape[1:]
        mean = blocks.mean(dim=1)
        return math.log(2) - m / (2 * k) * mean.square().sum(1), (-mean / k)[:, None].expand_as(blocks)

    def _covariance(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """The second bound, and its gradient."""
        m, k = blocks.shape[1:]
        moments = blocks.mT @ blocks / m - torch.eye(k, dtype=blocks.dtype, device=blocks.device)
        values, vectors = torch.linalg.eigh(moments)
        widest = values.abs().argmax(dim=1, keepdim=True)
        value = values.gather(1, widest)[:, 0]
        vector = vectors.gather(2, widest[:, :, None].expand(-1, k, 1))
        root = (1 + value.abs()).sqrt()
        excess = (root - 1 - math.sqrt(k / m)).clamp(min=0)
        change = (-excess / root * value.sign())[:, None, None] * (blocks @ vector) @ vector.mT
        return math.log(2) - m / 2 * excess**2, change
