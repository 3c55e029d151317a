"""UniPC: a multistep predictor and a corrector that reuses the evaluation already made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from torch import Tensor

from itscale.errors import ConfigError, unknown_name
from itscale.process import ContinuousProcess
from itscale.solvers.linear_update import LinearUpdate, Row
from itscale.solvers.schedule import Schedule

Variant = Literal["bh1", "bh2"]


def _differences(schedule: Schedule, level: int, depth: int) -> list[float]:
    """Where the earlier samples lie, in units of the step from ``level``; samples at infinity left out."""
    h, where, nodes = schedule.log_snr_gain(level), 0.0, []
    for k in range(1, depth + 1):
        where -= schedule.log_snr_gain(level - k) / h
        if math.isinf(where):
            break
        nodes.append(where)
    return nodes


def weights(h: float, nodes: Sequence[float], variant: Variant) -> list[float]:
    """``B(h) rho_k``: what the differences D_k - D_i weigh, nodes in units of h.

    A single difference weighs B/2, which is all that its order needs and where the variants differ.
    """
    w = -h
    b = -1.0 if math.isinf(h) else w if variant == "bh1" else math.expm1(w)
    if len(nodes) == 1:
        return [b / 2 / nodes[0]]
    if not nodes:
        return []
    g, right = math.expm1(w) / w - 1, []
    for q in range(1, len(nodes) + 1):
        right.append(g * math.factorial(q))
        g = g / w - 1 / math.factorial(q + 1)
    rho = np.linalg.solve(np.vander(nodes, increasing=True).T, right)  # B cancels
    return [float(r) / node for r, node in zip(rho, nodes, strict=True)]


def predictor_row(schedule: Schedule, level: int, depth: int, order: int, variant: Variant) -> Row:
    """UniP: the exponential step plus weighted differences to earlier denoised samples."""
    nodes = _differences(schedule, level, min(depth, order - 1))
    on = [-schedule.alpha[level + 1] * w for w in weights(schedule.log_snr_gain(level), nodes, variant)]
    rest = [0.0] * (depth - len(on))
    return Row(schedule.kept(level), (schedule.pulled(level) - sum(on), *on, *rest), 0.0)


def correction(schedule: Schedule, level: int, depth: int, order: int, variant: Variant) -> list[float]:
    """What UniC adds to the state of ``level`` once it has been looked at, on D_i, D_(i-1), ...

    Corrector and predictor start from the same state, so that the difference holds denoised samples only and
    no earlier state has to be kept.
    """
    before, alpha = level - 1, schedule.alpha[level]
    h = schedule.log_snr_gain(before)
    nodes = _differences(schedule, before, min(depth, order) - 1)
    new, *old = weights(h, [1.0, *nodes], variant)
    on = [-alpha * new, alpha * (new + sum(old)), *(-alpha * w for w in old)]
    predicted = predictor_row(schedule, before, depth - 1, order, variant).b
    base = schedule.pulled(before)
    known = [predicted[0] - base, *predicted[1:]]  # on D_(i-1), D_(i-2), ...: the predictor's differences
    on += [0.0] * (1 + len(known) - len(on))
    return [on[0], *(c - p for c, p in zip(on[1:], known, strict=True))]


@dataclass(frozen=True)
class UniPC:
    """Order ``p + 1`` at one evaluation a step; keeps ``p`` denoised samples per row.

    The state of a level is the predicted one, where the model is looked at; the next step starts from the
    corrected one, which is a combination of what is remembered.

    Attributes:
        p: order of the predictor, 1 to 3.
        variant: B(h) = h (``bh1``) or exp(h) - 1 (``bh2``); they differ where one difference is used.

    Reference:
        Zhao et al. (2023), "UniPC", arXiv:2302.04867, UniPC with data prediction.
    """

    p: int = 2
    variant: Variant = "bh2"
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check("UniPC", self.p, self.variant)

    @property
    def order(self) -> int:
        return self.p + 1

    @property
    def history(self) -> int:
        return self.p

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        def row(schedule: Schedule, level: int, depth: int) -> Row:
            step = predictor_row(schedule, level, depth, self.p, self.variant)
            if depth == 0:
                return step
            change = correction(schedule, level, depth, self.p, self.variant)
            return Row(step.a, tuple(b + step.a * c for b, c in zip(step.b, change, strict=True)), 0.0)

        return LinearUpdate.build(Schedule.of(process, times), row, history=self.history)


@dataclass(frozen=True)
class UniP:
    """UniPC without its corrector: order ``p`` at one evaluation a step.

    Reference:
        Zhao et al. (2023), "UniPC", arXiv:2302.04867, UniP with data prediction.
    """

    p: int = 3
    variant: Variant = "bh2"
    is_stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check("UniP", self.p, self.variant)

    @property
    def order(self) -> int:
        return self.p

    @property
    def history(self) -> int:
        return self.p - 1

    def build(self, process: ContinuousProcess, times: Tensor) -> LinearUpdate:
        def row(schedule: Schedule, level: int, depth: int) -> Row:
            return predictor_row(schedule, level, depth, self.p, self.variant)

        return LinearUpdate.build(Schedule.of(process, times), row, history=self.history)


def _check(solver: str, order: int, variant: str) -> None:
    if isinstance(order, bool) or not isinstance(order, int) or order not in (1, 2, 3):
        raise ConfigError(f"{solver} needs p = 1, 2 or 3, got {order!r}")
    if variant not in get_args(Variant):
        raise unknown_name(f"B(h) of {solver}", str(variant), get_args(Variant))
