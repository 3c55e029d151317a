"""A guide without gradients: the population's own denoised samples show where reward lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from itscale.guides.base import View, capped
from itscale.types import State

MANY_GROUPS = 64  # in one micro-batch; above, their banks are copied and multiplied at once


@dataclass(frozen=True)
class Population:
    """Shift each particle towards the denoised samples near it whose values are high.

    With ``s^2 = sigma^2 + alpha^2 c`` one level ahead and ``m`` the mean of the particle's move,

        q_j = -|m - alpha D_j|^2 / (2 s^2)
        d = std * alpha / s^2 * sum_j (softmax(q + strength v) - softmax(q))_j D_j

    is the gradient of the value that the population, as a mixture of Gaussians of variance ``c`` around its
    denoised samples, predicts at ``m``. It costs no network or reward call; with fewer than eight particles
    there is nothing to learn from.

    Attributes:
        strength: exponent of the value ahead, () or (g,); the context's values hold the tilt already.
        spread: (steps,) posterior variance per coordinate at every level.
        cap: largest norm of the shift in standard deviations of the move; None leaves it as it is.
    """

    strength: Tensor
    spread: Tensor
    cap: float | None = 1.0
    wants_context: ClassVar[bool] = True

    def __call__(self, view: View) -> State:
        context, level = view.context, view.level
        assert context is not None, "a guide of this kind needs a context"
        assert isinstance(level, int), "all particles must be at one level"
        alpha, sigma = float(view.bridge.alpha[level + 1]), float(view.bridge.sigma[level + 1])
        square = sigma**2 + alpha**2 * float(self.spread[level + 1])
        bank, mean = context.denoised, view.mean.flatten(1)
        value = self.strength.to(context.value.device).reshape(-1, 1) * context.value
        gain = (
            (value - value.amax(1, keepdim=True)).exp().to(bank.dtype)
        )  # a dead group gets NaN, and no push
        half = alpha**2 / (2 * square) * bank.square().sum(-1)
        shift = torch.empty_like(mean)
        for rows, group in by_group(view.group.to(mean.device), at_once=view.pad is None):
            there = bank[group]  # (n, d) for one group, (rows, n, d) for one each
            here = mean[rows].unsqueeze(-2) if group.ndim else padded(mean[rows], view.pad)
            # |m - alpha D|^2 up to what all j share, as a matrix product in place of n differences
            q = alpha / square * (here @ there.mT) - half[group].unsqueeze(-2)
            near = (q - q.amax(-1, keepdim=True)).exp()
            good = near * gain[group].unsqueeze(-2)
            pull = good / good.sum(-1, keepdim=True) - near / near.sum(-1, keepdim=True)
            shift[rows] = (pull @ there).reshape(-1, mean.shape[1])[: len(mean[rows])]
        scale = float(view.bridge.std[level]) * alpha / square
        return capped((scale * shift).reshape(view.here.x.shape), self.cap)


def by_group(group: Tensor, at_once: bool) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows with the group that they share, or all rows with a group each where groups are small."""
    groups, counts = group.unique_consecutive(return_counts=True)
    if at_once and len(groups) > MANY_GROUPS:
        yield slice(None), group
        return
    end = 0
    for one, count in zip(groups, counts.tolist(), strict=True):
        yield slice(end, end + count), one
        end += count


def padded(rows: Tensor, size: int | None) -> Tensor:
    return rows if size is None else torch.cat([rows, rows.new_zeros(size - len(rows), rows.shape[1])])
