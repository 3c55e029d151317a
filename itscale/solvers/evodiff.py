"""EVODiff: a two-step method whose weights are read off the last denoised samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.linear_update import exponential_row
from itscale.solvers.schedule import Schedule

LIMIT = 2.0  # of projections
MANY = 20  # moves, beyond which the authors' program weighs the correction differently


@dataclass(frozen=True)
class Numbers:
    """What a step needs beside tensors, in the frame of ``y = x / alpha``.

    Attributes:
        kept: ``kappa_+ / kappa``; pulled: one minus it; delta: ``1 / kappa_+ - 1 / kappa``.
        r: the step before in units of this one, in log-SNR; beta: root of the ratio of their ``kept``.
        w: share of the projections in the weights.
    """

    kept: float
    pulled: float
    delta: float
    r: float
    beta: float
    w: float

    @classmethod
    def of(cls, schedule: Schedule, level: int) -> Numbers:
        before, now, after = (schedule.kappa(level + j) for j in (-1, 0, 1))
        highest = next(k for k in map(schedule.kappa, range(schedule.steps)) if math.isfinite(k))
        lowest = schedule.kappa(schedule.steps - 1)
        tau = (after + lowest) / (highest + lowest)
        kept, kept_before = after / now, now / before
        r = schedule.log_snr_gain(level - 1) / schedule.log_snr_gain(level)
        return cls(kept, 1 - kept, 1 / after - 1 / now, r, math.sqrt(kept / kept_before), (1 - tau**2) / 2)


@dataclass(frozen=True)
class Predicted:
    """The first half of a step: what it adds to the DDIM step, and what the second half needs of it."""

    change: Tensor  # D_i - b D_(i-1)
    r: Tensor  # r_i
    added: Tensor

    @classmethod
    def of(cls, n: Numbers, newest: Tensor, before: Tensor) -> Predicted:
        b = _weight(n, newest, before)
        change = newest - b * before
        r = (torch.sigmoid(b.abs() / 4) * n.r).clamp(n.r / 4, 1.5 * n.r)
        return cls(change, r, n.pulled / 2 * change / r)


@dataclass(frozen=True)
class EVODiffKernel:
    """Correct the state once it has been looked at, then predict the next one."""

    schedule: Schedule
    numbers: tuple[Numbers | None, ...]
    is_published: bool
    gaussian: bool = False
    history: int = 2
    takes_levels: bool = False

    def is_noisy(self, level: int) -> bool:
        return False

    def extra_looks(self, level: int) -> int:
        return 0

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        if level == self.schedule.steps - 1:
            return Move(at.denoised)
        n = self.numbers[level]
        if n is None or not history:
            row = exponential_row(self.schedule, level)
            return Move(torch.mul(at.x, row.a).add_(at.denoised, alpha=row.b[0]))
        newest, before = at.denoised, history[0]
        y, earlier = at.x / self.schedule.alpha[level], self.numbers[level - 1]
        if len(history) > 1 and earlier is not None:
            y = y + self._correction(earlier, newest, before, history[1])
        plain = n.kept * y + n.pulled * newest
        if level < self.schedule.steps - 2:
            y = plain + Predicted.of(n, newest, before).added
        else:
            y = self._last(n, level, plain, newest, before) if self.is_published else plain
        return Move(y * self.schedule.alpha[level + 1])

    def _correction(self, n: Numbers, ahead: Tensor, newest: Tensor, before: Tensor) -> Tensor:
        """What the second half of a step adds to its prediction, ``ahead`` being the sample seen there."""
        first = Predicted.of(n, newest, before)
        second = ahead - _weight(n, ahead, newest) * newest
        low, high = first.change / (n.r * n.delta), second * n.r / n.delta
        eta = torch.sigmoid(_projection(high + low, high - low).abs() / 2) / 2
        mixed = n.r * (1 - eta) * second - eta / n.r * first.change
        gap = first.added - n.pulled / 2 * mixed / first.r
        off = (_projection(gap, first.change) / n.pulled).abs() - 1 / 2
        if self.schedule.steps - 1 > MANY:
            on = _projection(newest, (newest - before) / n.delta) * (2 - n.kept**2)
            off = -off * torch.sigmoid(on)
        return n.pulled / 2 * mixed / torch.sigmoid(off) - first.added

    def _last(self, n: Numbers, level: int, plain: Tensor, newest: Tensor, before: Tensor) -> Tensor:
        root = math.sqrt(self.schedule.kappa(level) * self.schedule.kappa(level + 1))
        r = 1 - math.sqrt(n.kept if n.kept < 1 / 2 else n.kept - 1 / 2) / 2
        return (1 - root) * plain + n.pulled / 2 * (newest - r * before)


@dataclass(frozen=True, kw_only=True)
class EVODiff:
    """For reproduction only: as published it has no limit as steps grow, so it solves no equation.

    One evaluation a step; remembers two denoised samples per row. With a plain last step its order is 1, and
    on mixtures it is behind ``dpm++2m`` in nearly every setting that was tried: what it gains in published
    Frechet distances is not accuracy. In no table of names, and refused by methods that weight samples. The
    state of a level is the predicted one, corrected when the next step begins. Inner products are per sample,
    of images per channel. The first step, and one after pure noise, is DDIM.

    Not established: its programs for ImageNet and Stable Diffusion (only one for EDM models could be read,
    which is followed here), and its tables.

    Attributes:
        last: the last step before the jump, ``"published"``, which sharpens, or ``"plain"``.

    Reference:
        Li et al. (2025), "EVODiff: Entropy-aware Variance Optimized Diffusion Inference", arXiv:2509.26096,
        and its released code.
    """

    last: Literal["published", "plain"] = "published"
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    history: ClassVar[int] = 2
    gaussian: ClassVar[bool] = False
    changes_law: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.last not in ("published", "plain"):
            raise ConfigError(f"last must be 'published' or 'plain', got {self.last!r}")

    @property
    def order(self) -> int:
        """0 says that it does not converge."""
        return 0 if self.last == "published" else 1

    def build(self, process: ContinuousProcess, times: Tensor) -> EVODiffKernel:
        schedule = Schedule.of(process, times)
        numbers = tuple(
            Numbers.of(schedule, level) if level and not schedule.is_noise(level - 1) else None
            for level in range(schedule.steps - 1)
        )
        return EVODiffKernel(schedule, numbers, self.last == "published")


def _weight(n: Numbers, ahead: Tensor, behind: Tensor) -> Tensor:
    return (1 - n.w) * n.beta + n.w * _projection(ahead, behind)


def _projection(a: Tensor, b: Tensor) -> Tensor:
    """``<a, b> / <b, b>`` within limits, broadcasting over an event; 0 where b vanishes."""
    axes = tuple(range(1 if a.ndim == 2 else 2, a.ndim))
    square = (b * b).sum(axes, keepdim=True)
    inner = (a * b).sum(axes, keepdim=True)
    return torch.where(square > 0, inner / square, torch.zeros_like(square)).clamp(-LIMIT, LIMIT)
