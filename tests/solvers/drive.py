"""Run a kernel without an engine, and read an affine sampler's law off its coefficients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale import grids
from itscale.interpolants.base import as_time
from itscale.models import GaussianMixture
from itscale.process import ODE, SDE, ContinuousProcess, Evaluation
from itscale.solvers import Kernel, Move, Solver, get_solver, shares_of
from itscale.solvers.base import Look


def drive(
    process: ContinuousProcess,
    solver: str | Solver,
    times: Tensor,
    x: Tensor,
    noise: Callable[..., Tensor] | None = None,
    until: int | None = None,
) -> Tensor:
    """Move states from level 0 to level ``until`` (the end if None), history kept as the worker does.

    ``noise(level)`` is called for noisy moves only; ``noise(level, j)`` where a move uses several normals.
    """
    kernel = get_solver(solver).build(process, times)
    look = looker(process, times)
    history: tuple[Tensor, ...] = ()
    for level in range(len(times) - 1 if until is None else until):
        at = look(x, level)
        z = draw(kernel, level, noise) if noise is not None and kernel.is_noisy(level) else None
        move = kernel(at, history, level, look, z)
        x, history = move.x, remembered(kernel, at, history, move)
    return x


def looker(process: ContinuousProcess, times: Tensor) -> Look:
    """Evaluate at a level (int) or at a time (float)."""

    def look(x: Tensor, where: int | float, rows: Tensor | None = None) -> Evaluation:
        return process.evaluate(x, times[where] if isinstance(where, int) else as_time(where))

    return look


def remembered(kernel: Kernel, at: Evaluation, history: tuple[Tensor, ...], move: Move) -> tuple[Tensor, ...]:
    """What rows remember after a move, as the worker keeps it."""
    memory = (at.denoised, *history) if move.memory is None else move.memory
    return memory[: kernel.history]


def draw(kernel: Kernel, level: int, noise: Callable[..., Tensor]) -> Tensor:
    """The noise of a move: (rows, *event), or (rows, m, *event) where the kernel uses m normals."""
    shares = shares_of(kernel, level)
    return noise(level) if shares is None else torch.stack([noise(level, j) for j in range(len(shares))], 1)


@dataclass(frozen=True)
class AffineLaw:
    """``x = mean + sum_j coefficients_j z_j`` with independent standard normal ``z_j``."""

    mean: float
    coefficients: Tensor

    @property
    def variance(self) -> float:
        return float(self.coefficients.square().sum())


def affine_law(
    process: ContinuousProcess,
    solver: str | Solver,
    times: Tensor,
    scale: float,
    until: int | None = None,
) -> AffineLaw:
    """The exact law of a sampler whose model is one Gaussian on the line, started at ``scale * z_0``.

    Every update is then affine in the start and the noises. Row 0 is run with all of them 0, row 1 + j
    with the j-th one at 1, through the same kernel code as any sample.
    """
    kernel = get_solver(solver).build(process, times)
    counts = [len(shares_of(kernel, k) or (1,)) for k in range(len(times) - 1)]
    first = [1 + sum(counts[:k]) for k in range(len(counts))]
    size = 1 + sum(counts)
    basis = torch.cat([torch.zeros(1, size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)])
    end = drive(
        process, solver, times, scale * basis[:, :1], lambda k, j=0: basis[:, first[k] + j, None], until
    )[:, 0]
    return AffineLaw(float(end[0]), end[1:] - end[0])


def gaussian(mean: float = 0.7, std: float = 0.5, interpolant="linear") -> GaussianMixture:
    """Data N(mean, std^2) on the line, in float64."""
    return GaussianMixture([1.0], [[mean]], [std], interpolant=interpolant, dtype=torch.float64)


def process_of(model, view: ODE | SDE) -> ContinuousProcess:
    return ContinuousProcess.of(model, view)


def kappa_grid(process: ContinuousProcess, moves: int, kappa_max: float, kappa_min: float) -> Tensor:
    """Karras times: ``moves`` moves from ``kappa_max`` to ``kappa_min``, then the jump, which tables omit."""
    return grids.karras(
        process.interpolant, moves + 1, process.t_start, kappa_max=kappa_max, kappa_min=kappa_min
    )


def slope(errors: list[float]) -> float:
    """Order of convergence over the last doubling of the number of steps."""
    return float(torch.tensor(errors[-2] / errors[-1]).log2())
