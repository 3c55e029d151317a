"""Restart cycles as moves of particle methods: which settings can work, where they happen, what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.process import ContinuousProcess
from itscale.solvers import Interval, Solver, get_solver
from itscale.solvers.restart import Cycle, CycleKernel, level_of


def check_cycles(intervals: Sequence[Interval], inner: str | Solver) -> None:
    """Raise ConfigError unless these are intervals and a plain solver."""
    if not intervals or not all(isinstance(i, Interval) for i in intervals):
        raise ConfigError(f"intervals must be one or more Interval(...), got {intervals!r}")
    solver = get_solver(inner)
    if getattr(solver, "brings_noise", False):
        raise ConfigError(f"inner must be a plain solver of the ODE or SDE, got {type(solver).__name__}")


def check_reversible(inner: str | Solver, advice: str = "") -> None:
    """Raise ConfigError unless cycles come down by the reverse SDE: a reversible move of the base law."""
    solver = get_solver(inner)
    if not solver.is_stochastic:
        raise ConfigError(
            "Metropolis needs cycles that come down by the reverse SDE, and "
            f"{type(solver).__name__} solves the ODE: use inner='2m-sde'{advice}"
        )


def check_levels(process: ContinuousProcess, times: Tensor, intervals: Sequence[Interval]) -> list[int]:
    """Return the levels of intervals, or raise ConfigError for those that do not fit the grid."""
    levels = [level_of(process, times, interval) for interval in intervals]
    if len(set(levels)) < len(levels):
        raise ConfigError("two restart intervals belong to one level of the grid; use more steps there")
    return levels


def cycle_at(
    engine: Engine, level: int, intervals: Sequence[Interval], inner: str | Solver
) -> tuple[CycleKernel, int] | None:
    """Return the move of the interval that belongs to this level, and its repeats; None if there is none."""
    assert engine.process is not None
    for interval in intervals:
        if level == level_of(engine.process, engine.times, interval):
            t = float(engine.times[level])
            cycle = Cycle.build(engine.process, t, interval, get_solver(inner), rho=7.0)
            return CycleKernel(cycle), interval.repeats
    return None


def looks_of_a_cycle(interval: Interval, inner: str | Solver) -> int:
    """NFE of one cycle and of the look where it ends."""
    return (interval.points - 1) * get_solver(inner).evaluations + 1
