"""Restart: go back up to noise by the exact forward jump, come down again by a solver, and repeat."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.grids.kappa import karras_spacing
from itscale.process import Coefficient, ContinuousProcess, Evaluation, Natural
from itscale.solvers.base import Kernel, Look, Move, Solver, remembered, shares_of


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where to restart, in noise-to-signal ratio (the "sigma" of EDM).

    Attributes:
        kappa_min: from here up; moved to the nearest level of the grid.
        kappa_max: to here, and back down.
        points: of the way down, ends included: ``points - 1`` steps of the inner solver.
        repeats: cycles.
    """

    kappa_min: float
    kappa_max: float
    points: int = 3
    repeats: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.kappa_min < self.kappa_max < math.inf:
            raise ConfigError(
                "a restart interval needs 0 < kappa_min < kappa_max < infinity, "
                f"got {self.kappa_min!r} and {self.kappa_max!r}"
            )
        for name, value, least in (("points", self.points, 2), ("repeats", self.repeats, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"{name} of a restart interval must be a whole number >= {least}, got {value!r}"
                )


@dataclass(frozen=True)
class Cycle:
    """One cycle at a level: noise up in one jump without evaluations, then the inner solver down.

    With the exact score it leaves the law of the level as it is; with a stochastic inner solver it is
    reversible as well, since the way down is then a draw given the state above.
    """

    keeps: float
    spread: float
    times: tuple[float, ...]
    inner: Kernel

    @classmethod
    def build(
        cls,
        process: ContinuousProcess,
        t_low: float,
        interval: Interval,
        inner: Solver,
        rho: float,
        noise_scale: float = 1.0,
    ) -> Cycle:
        path = process.interpolant
        u = torch.arange(interval.points - 1, dtype=torch.float64) / (interval.points - 1)
        between = karras_spacing(u, interval.kappa_max, float(path.kappa(t_low)), rho)
        times = (*path.t_of_kappa(between).tolist(), t_low)
        return cls.along(process, t_low, times, inner, noise_scale)

    @classmethod
    def along(
        cls,
        process: ContinuousProcess,
        t_low: float,
        times: Sequence[float],
        inner: Solver,
        noise_scale: float = 1.0,
    ) -> Cycle:
        """From time ``t_low`` up to ``times[0]``, and down along ``times`` by the inner solver."""
        path = process.interpolant
        # the jump up follows the noising SDE whose reverse has the natural coefficient
        diffusion = Natural() if inner.is_stochastic else Coefficient("zero")
        grid = torch.tensor([*times, 1.0], dtype=torch.float64)  # the jump to the data is never made
        kernel = inner.build(replace(process, diffusion=diffusion), grid)
        keeps = float(path.alpha(times[0])) / float(path.alpha(t_low))
        spread = math.sqrt(float(path.sigma(times[0])) ** 2 - (keeps * float(path.sigma(t_low))) ** 2)
        return cls(keeps, noise_scale * spread, tuple(times), kernel)

    @property
    def looks(self) -> int:
        return sum(1 + self.inner.extra_looks(k) for k in range(len(self.times) - 1))

    @property
    def normals(self) -> int:
        return 1 + sum(_count(self.inner, k) for k in range(len(self.times) - 1))

    def __call__(self, x: Tensor, look: Look, z: Sequence[Tensor]) -> Tensor:
        """Take states at the level, and as many normals as ``normals`` says, to states at the level."""
        first, *rest = z
        x = torch.mul(x, self.keeps).add_(first, alpha=self.spread)
        memory: tuple[Tensor, ...] = ()

        def inside(y: Tensor, where: int | float, rows: Tensor | None = None, /) -> Evaluation:
            return look(y, where if isinstance(where, float) else self.times[where], rows)

        for step in range(len(self.times) - 1):
            at = inside(x, step)
            noise, rest = _take(self.inner, step, rest)
            move = self.inner(at, memory, step, inside, noise)
            memory = remembered(self.inner, at, memory, move)
            x = move.x
        return x


@dataclass(frozen=True)
class CycleKernel:
    """A move that stays at its level: one cycle."""

    cycle: Cycle
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False

    def is_noisy(self, level: int) -> bool:
        return True

    def extra_looks(self, level: int) -> int:
        return self.cycle.looks

    def shares(self, level: int) -> tuple[float, ...]:
        return (1.0, *[0.0] * (self.cycle.normals - 1))

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert z is not None
        return Move(self.cycle(at.x, look, z.unbind(1)))


@dataclass(frozen=True)
class RestartKernel:
    """The main solver's move, then the cycles of the level where it arrives.

    A cycle is a jump in time, so the main solver starts after it without memory.
    """

    main: Kernel
    cycles: dict[int, tuple[Cycle, int]]  # by level of arrival, with repeats
    gaussian: bool = False
    takes_levels: bool = False

    @property
    def history(self) -> int:
        return self.main.history

    def is_noisy(self, level: int) -> bool:
        return self.main.is_noisy(level) or level + 1 in self.cycles

    def extra_looks(self, level: int) -> int:
        cycle, repeats = self.cycles.get(level + 1, (None, 0))
        return self.main.extra_looks(level) + (repeats * cycle.looks if cycle else 0)

    def shares(self, level: int) -> tuple[float, ...] | None:
        """A shift goes to the main solver's noise; where it has none, to the last jump up."""
        main = shares_of(self.main, level)
        if level + 1 not in self.cycles:
            return main
        cycle, repeats = self.cycles[level + 1]
        if self.main.is_noisy(level):
            return (*(main or (1.0,)), *[0.0] * (repeats * cycle.normals))
        return (*[0.0] * ((repeats - 1) * cycle.normals), 1.0, *[0.0] * (cycle.normals - 1))

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        past = () if level in self.cycles else tuple(history)
        if level + 1 not in self.cycles:
            move = self.main(at, past, level, look, z)
            return replace(move, memory=remembered(self.main, at, past, move))
        assert z is not None, "a restart needs noise"
        noise, rest = _take(self.main, level, list(z.unbind(1)))
        move = self.main(at, past, level, look, noise)
        x = move.x
        cycle, repeats = self.cycles[level + 1]
        for i in range(repeats):
            x = cycle(x, look, rest[i * cycle.normals : (i + 1) * cycle.normals])
        return Move(x, memory=remembered(self.main, at, past, move))


@dataclass(frozen=True)
class Restart:
    """A main solver that restarts where it passes the lower end of an interval; brings noise to ``ODE()``.

    The way down is a Karras grid (``rho``) of ``points`` between ``kappa_max`` and the level. Costs what the
    main solver costs, and ``repeats`` times the inner solver's ``points - 1`` steps per interval: with Heun
    in both, ``2 T - 1 + sum_i 2 repeats_i (points_i - 1)`` on T levels. Contracts errors made above an
    interval, and adds those made in it: with a model that is wrong there it makes things worse.

    Uses a standard normal per cycle (and those of a stochastic inner solver), so the transition is not
    Gaussian. With an exact score a cycle leaves the base law as it is; particle methods weight what a
    restart moved like any other move, by the difference of potentials.

    Attributes:
        intervals: in any order. Each belongs to one level of the grid.
        main, inner: solvers or names. A stochastic inner solver comes down by the reverse SDE.
        noise_scale: factor on the noise of the jump; 1.003 in the published ImageNet settings, which leaves
            a bias.
        overlapping: allow intervals that overlap.

    Reference:
        Xu et al. (2023), "Restart Sampling for Improving Generative Processes", arXiv:2306.14878;
        ``restart_presets`` has its settings. Departures: its code lets two intervals at one level overwrite
        each other, which is an error here, and adds a churn of 0.05 inside cycles between sigma 0.01 and 1
        unless told otherwise, of which the paper says nothing.
    """

    intervals: tuple[Interval, ...] = (Interval(kappa_min=0.3, kappa_max=1.0, points=3, repeats=2),)
    main: str | Solver = "heun"
    inner: str | Solver = "heun"
    noise_scale: float = 1.0
    rho: float = 7.0
    overlapping: bool = False
    brings_noise: ClassVar[bool] = True
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "intervals", tuple(self.intervals))
        if not self.intervals or not all(isinstance(i, Interval) for i in self.intervals):
            raise ConfigError(f"Restart needs one or more Interval(...), got {self.intervals!r}")
        for name, value in (("noise_scale", self.noise_scale), ("rho", self.rho)):
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be positive and finite, got {value!r}")
        ordered = sorted(self.intervals, key=lambda i: i.kappa_min)
        for a, b in itertools.pairwise(ordered):
            if not self.overlapping and b.kappa_min < a.kappa_max * (1 - 1e-9):
                raise ConfigError(
                    f"restart intervals overlap: [{a.kappa_min:g}, {a.kappa_max:g}] and "
                    f"[{b.kappa_min:g}, {b.kappa_max:g}]; part them, or set overlapping=True"
                )
        for solver in (self._main, self._inner):
            if not hasattr(solver, "build"):
                raise ConfigError(f"main and inner must be solvers or their names, got {solver!r}")
            if isinstance(solver, Restart):
                raise ConfigError("a Restart holds no other Restart; give it more intervals")

    @property
    def _main(self) -> Solver:
        return _resolve(self.main)

    @property
    def _inner(self) -> Solver:
        return _resolve(self.inner)

    @property
    def is_stochastic(self) -> bool:
        return self._main.is_stochastic

    @property
    def order(self) -> int:
        return min(self._main.order, self._inner.order)

    @property
    def evaluations(self) -> int:
        return self._main.evaluations

    @property
    def history(self) -> int:
        return self._main.history

    def build(self, process: ContinuousProcess, times: Tensor) -> RestartKernel:
        main = self._main.build(process, times)
        cycles: dict[int, tuple[Cycle, int]] = {}
        for interval in self.intervals:
            level = level_of(process, times, interval)
            if level in cycles:
                raise ConfigError(
                    f"two restart intervals belong to level {level} of the grid; use more steps there, "
                    "or one interval with more repeats"
                )
            cycle = Cycle.build(
                process, float(times[level]), interval, self._inner, self.rho, self.noise_scale
            )
            cycles[level] = (cycle, interval.repeats)
        return RestartKernel(main, cycles)


def level_of(process: ContinuousProcess, times: Tensor, interval: Interval) -> int:
    """The level of the grid at which an interval begins: the nearest in noise-to-signal ratio.

    Raises:
        ConfigError: if the interval lies outside the grid.
    """
    kappa = process.interpolant.kappa(times[:-1])
    if len(kappa) < 2:
        raise ConfigError("a restart needs a grid of at least 2 steps")
    high, first, last = float(kappa[0]), float(kappa[1]), float(kappa[-1])
    level = nearest_level(kappa, interval)
    inside = last * (1 - 1e-9) <= interval.kappa_min <= first * (1 + 1e-9)
    if not inside or interval.kappa_max > high * (1 + 1e-9):
        raise ConfigError(
            f"restart interval [{interval.kappa_min:g}, {interval.kappa_max:g}] lies outside the grid: "
            f"kappa_min must be between its levels {last:.4g} and {first:.4g} (sigma/alpha), kappa_max at "
            f"most {high:.4g}; move the interval, or take a grid such as 'karras' or more steps"
        )
    if float(kappa[level]) >= interval.kappa_max:
        raise ConfigError(
            f"restart interval [{interval.kappa_min:g}, {interval.kappa_max:g}] begins at the level "
            f"{float(kappa[level]):.4g} of the grid, above its end; raise kappa_max, or take more steps"
        )
    return level


def nearest_level(kappa: Tensor, interval: Interval) -> int:
    """The level, but the first, whose noise-to-signal ratio is nearest an interval's lower end."""
    return 1 + int((kappa[1:] - interval.kappa_min).abs().argmin())


def _resolve(solver: str | Solver) -> Solver:
    if not isinstance(solver, str):
        return solver
    from itscale.solvers import get_solver  # the table holds Restart itself

    return get_solver(solver)


def _count(kernel: Kernel, level: int) -> int:
    """How many standard normals a move uses."""
    return len(shares_of(kernel, level) or (1.0,)) if kernel.is_noisy(level) else 0


def _take(kernel: Kernel, level: int, z: Sequence[Tensor]) -> tuple[Tensor | None, list[Tensor]]:
    """Part the first normals off, in the shape in which a kernel takes them."""
    count = _count(kernel, level)
    if not count:
        return None, list(z)
    is_single = shares_of(kernel, level) is None
    return z[0] if is_single else torch.stack(list(z[:count]), dim=1), list(z[count:])
