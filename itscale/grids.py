"""Time grids: where a sampler evaluates the model.

A grid of ``steps`` intervals is a float64 CPU tensor of ``steps + 1`` increasing times, from ``t_start``
(noise) to 1 (data). The last interval is the jump to the denoised sample, so the model is asked at the first
``steps`` times.

Grids in the noise-to-signal ratio ``kappa`` place the first ``steps`` times between ``kappa(t_start)``,
capped at ``kappa_max`` where it is larger or infinite, and ``kappa_min``, raised to what the path allows at
its ``t_max``. The first time is ``t_start`` itself whatever the cap. On a path that ends with noise (VE) the
last time, 1, is part of the spacing and ``kappa_min`` is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError, unknown_name
from itscale.interpolants import Interpolant, Linear, Table

Times = Float64[Tensor, " times"]


def uniform(interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
    """Times at equal distances."""
    _check(steps, t_start)
    return validate_grid(torch.linspace(t_start, 1.0, steps + 1, dtype=torch.float64))


def log_snr(
    interpolant: Interpolant,
    steps: int,
    t_start: float = 0.0,
    *,
    kappa_max: float = 80.0,
    kappa_min: float = 0.002,
) -> Times:
    """Ratios ``kappa`` in geometric progression: equal distances in log-SNR ("exponential")."""
    return poly_exponential(interpolant, steps, t_start, rho=1.0, kappa_max=kappa_max, kappa_min=kappa_min)


def karras(
    interpolant: Interpolant,
    steps: int,
    t_start: float = 0.0,
    *,
    rho: float = 7.0,
    kappa_max: float = 80.0,
    kappa_min: float = 0.002,
) -> Times:
    """Equal distances in ``kappa^(1/rho)``.

    The N points plus a zero of the paper are N intervals here.

    Reference:
        Karras et al. (2022), arXiv:2206.00364, eq. (5); defaults of its Table 1.
    """

    def spacing(u: Tensor, high: float, low: float) -> Tensor:
        return (high ** (1 / rho) + u * (low ** (1 / rho) - high ** (1 / rho))) ** rho

    return _kappa_grid(interpolant, steps, t_start, kappa_max, kappa_min, spacing)


def poly_exponential(
    interpolant: Interpolant,
    steps: int,
    t_start: float = 0.0,
    *,
    rho: float = 1.0,
    kappa_max: float = 80.0,
    kappa_min: float = 0.002,
) -> Times:
    """``log kappa`` falls as the power ``(1 - u)^rho`` of the remaining share of the grid (k-diffusion)."""

    def spacing(u: Tensor, high: float, low: float) -> Tensor:
        return low * torch.exp((1 - u) ** rho * math.log(high / low))

    return _kappa_grid(interpolant, steps, t_start, kappa_max, kappa_min, spacing)


def shifted(interpolant: Interpolant, steps: int, t_start: float = 0.0, *, shift: float = 3.0) -> Times:
    """Noise times ``tau = 1 - t`` moved to ``shift tau / (1 + (shift - 1) tau)``.

    ``shift > 1`` moves towards noise; on the linear path it multiplies ``kappa`` by ``shift``. With
    ``t_start > 0`` the grid covers the rest of the same warp. diffusers applies a static shift twice at its
    low end; this is the formula applied once.

    Reference:
        Esser et al. (2024), "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis",
        arXiv:2403.03206, section 5.3.2. Default: SD3.
    """
    _check(steps, t_start)
    tau_start = (1 - t_start) / (shift - (shift - 1) * (1 - t_start))  # the inverse of the warp
    tau = torch.linspace(tau_start, 0.0, steps + 1, dtype=torch.float64)
    return _from_noise_time(shift * tau / (1 + (shift - 1) * tau), t_start)


def dynamic_shift(tokens: int, shifts: tuple[float, float] = (0.5, 1.15)) -> float:
    """The shift for an image of so many tokens: ``exp(mu)`` with mu linear in them.

    ``shifts`` are mu at 256 and at 4096 tokens. FLUX packs 16 x 16 pixels into a token, so that 4096 of them
    are 1024 x 1024 pixels.

    Reference:
        Esser et al. (2024), arXiv:2403.03206, section 5.3.2; the line is that of FLUX's released code.
    """
    return math.exp(shifts[0] + (shifts[1] - shifts[0]) * (tokens - 256) / (4096 - 256))


def stretched(times: Times, terminal: float = 0.1) -> Times:
    """Stretch a grid from its first time so that the last look is at noise time ``terminal`` (LTX)."""
    first, last = float(times[0]), float(times[-2])
    if len(times) == 2:
        return times
    if not first < 1 - terminal < 1:
        raise ConfigError(f"terminal must lie between 0 and 1 - t_start = {1 - first:g}, got {terminal:g}")
    inner = first + (times[:-1] - first) * ((1 - terminal - first) / (last - first))
    inner[0] = first
    return validate_grid(torch.cat([inner, times[-1:]]))


def spaced(
    interpolant: Interpolant, steps: int, t_start: float = 0.0, *, spacing: str = "trailing", offset: int = 0
) -> Times:
    """Whole time labels of a model trained on n of them (1000 off a table), as diffusers spaces them.

    Label i is the time ``(n - 1 - i) / n``. ``leading`` (which alone uses ``offset``) and any spacing of one
    step start later than ``t_start``. With ``t_start > 0`` the grid covers the rest in the same proportions.

    Reference:
        Lin et al. (2024), "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv:2305.08891.
    """
    _check(steps, t_start)
    n = len(interpolant.alphas_bar) if isinstance(interpolant, Table) else 1000
    spacings: dict[str, Callable[[int], int]] = {
        "leading": lambda i: offset + (steps - 1 - i) * (n // steps),
        "trailing": lambda i: round(n - i * n / steps) - 1,
        "linspace": lambda i: round((steps - 1 - i) * (n - 1) / max(steps - 1, 1)),
    }
    if spacing not in spacings:
        raise unknown_name("spacing", str(spacing), spacings)
    labels = [spacings[spacing](i) for i in range(steps)]
    if steps > n or labels[0] >= n or labels[-1] < 0:
        raise ConfigError(
            f"{spacing} spacing of {steps} steps needs labels {labels[-1]} to {labels[0]} and there are {n}; "
            "take fewer steps or another offset"
        )
    times = (n - 1 - torch.tensor(labels, dtype=torch.float64)) / n
    return validate_grid(torch.cat([t_start + (1 - t_start) * times, torch.ones(1, dtype=torch.float64)]))


def quarter_circle(interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
    """Noise times ``sqrt(1 - (i/steps)^2)``: dense near noise, one long last jump.

    Made for models distilled to few steps: with 10 steps it collapses the law of an ideal model on VP.

    Reference:
        Kim et al. (2025), "Inference-Time Scaling for Flow Models via Stochastic Generation and Rollover
        Budget Forcing", arXiv:2503.19385 (its released code).
    """
    _check(steps, t_start)
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    return _from_noise_time((1 - t_start) * torch.sqrt((1 - u) * (1 + u)), t_start)


def validate_grid(times: Tensor | Sequence[float]) -> Times:
    """Return the grid in float64 on the CPU.

    Raises:
        ConfigError: if it has fewer than two times, does not increase strictly, or leaves [0, 1].
    """
    grid = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    if grid.ndim != 1 or len(grid) < 2:
        raise ConfigError(
            f"a time grid needs at least two times (one step) along one axis, got shape {list(grid.shape)}"
        )
    first, last = float(grid[0]), float(grid[-1])
    shown = f"[{first:g}, ..., {last:g}]" if len(grid) > 2 else f"[{first:g}, {last:g}]"
    gaps = torch.diff(grid)
    if not bool((gaps > 0).all()):
        first_bad = int((~(gaps > 0)).nonzero()[0, 0])
        advice = "reverse it" if bool((gaps < 0).all()) else f"interval {first_bad} does not"
        raise ConfigError(f"time grid must increase from 0 to 1, got {shown}; {advice}")
    if first < 0 or last > 1:
        raise ConfigError(f"time grid must increase from 0 to 1, got {shown}; rescale it into [0, 1]")
    return grid


def _check(steps: int, t_start: float) -> None:
    if steps < 1:
        raise ConfigError(f"steps counts intervals and must be at least 1, got {steps}")
    if not 0 <= t_start < 1:
        raise ConfigError(f"t_start must lie in [0, 1), got {t_start}; 0 is noise and 1 is data")


def _from_noise_time(tau: Tensor, t_start: float) -> Times:
    times = 1 - tau
    times[0] = t_start
    return validate_grid(times)


def _kappa_grid(
    interpolant: Interpolant,
    steps: int,
    t_start: float,
    kappa_max: float,
    kappa_min: float,
    spacing: Callable[[Tensor, float, float], Tensor],
) -> Times:
    _check(steps, t_start)
    end = float(interpolant.kappa(1.0))
    high = min(float(interpolant.kappa(t_start)), kappa_max)
    low = end if end > 0 else max(kappa_min, float(interpolant.kappa(interpolant.t_max)))
    if not 0 < low < high:
        raise ConfigError(
            f"the grid would run from kappa = sigma/alpha = {high:g} (t_start {t_start:g}, or kappa_max) "
            f"down to {low:g}; start earlier, or choose kappa_min below kappa_max and the start"
        )
    inner = steps - 1 if end == 0 else steps  # intervals that the spacing covers
    u = torch.arange(steps, dtype=torch.float64) / max(inner, 1)
    times = interpolant.t_of_kappa(spacing(u, high, low).clamp(low, high))
    times = torch.cat([times, torch.ones(1, dtype=torch.float64)])
    times[0] = t_start
    return validate_grid(times)


@runtime_checkable
class Grid(Protocol):
    """A recipe for grids of any number of steps on any path."""

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times: ...


@dataclass(frozen=True)
class Uniform:
    """Settings of :func:`uniform`."""

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return uniform(interpolant, steps, t_start)


@dataclass(frozen=True)
class LogSNR:
    """Settings of :func:`log_snr`."""

    kappa_max: float = 80.0
    kappa_min: float = 0.002

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return log_snr(interpolant, steps, t_start, kappa_max=self.kappa_max, kappa_min=self.kappa_min)


@dataclass(frozen=True)
class Karras:
    """Settings of :func:`karras`."""

    rho: float = 7.0
    kappa_max: float = 80.0
    kappa_min: float = 0.002

    def __post_init__(self) -> None:
        _positive("Karras", "rho", self.rho)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return karras(
            interpolant, steps, t_start, rho=self.rho, kappa_max=self.kappa_max, kappa_min=self.kappa_min
        )


@dataclass(frozen=True)
class PolyExponential:
    """Settings of :func:`poly_exponential`."""

    rho: float = 1.0
    kappa_max: float = 80.0
    kappa_min: float = 0.002

    def __post_init__(self) -> None:
        _positive("PolyExponential", "rho", self.rho)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return poly_exponential(
            interpolant, steps, t_start, rho=self.rho, kappa_max=self.kappa_max, kappa_min=self.kappa_min
        )


@dataclass(frozen=True)
class Shifted:
    """Settings of :func:`shifted`."""

    shift: float = 3.0

    def __post_init__(self) -> None:
        _positive("Shifted", "shift", self.shift)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return shifted(interpolant, steps, t_start, shift=self.shift)


@dataclass(frozen=True)
class DynamicShifted:
    """:func:`shifted` by :func:`dynamic_shift` (FLUX, LTX; SD3 on request).

    Attributes:
        tokens: size of the image, or of the video, in tokens.
        low, high: logarithms of the shift at 256 and at 4096 tokens.
    """

    tokens: int = 4096
    low: float = 0.5
    high: float = 1.15

    def __post_init__(self) -> None:
        _positive("DynamicShifted", "tokens", self.tokens)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        shift = dynamic_shift(self.tokens, (self.low, self.high))
        return shifted(interpolant, steps, t_start, shift=shift)


@dataclass(frozen=True)
class Stretched:
    """Another grid, :func:`stretched`."""

    grid: str | Grid = "shifted"
    terminal: float = 0.1

    def __post_init__(self) -> None:
        get_grid(self.grid)
        if not 0 < self.terminal < 1:
            raise ConfigError(f"Stretched needs terminal in (0, 1), got {self.terminal}")

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return stretched(get_grid(self.grid)(interpolant, steps, t_start), self.terminal)


@dataclass(frozen=True)
class Spaced:
    """Settings of :func:`spaced`."""

    spacing: Literal["leading", "trailing", "linspace"] = "trailing"
    offset: int = 0

    def __post_init__(self) -> None:
        spaced(Linear(), 1, spacing=self.spacing)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return spaced(interpolant, steps, t_start, spacing=self.spacing, offset=self.offset)


@dataclass(frozen=True)
class QuarterCircle:
    """Settings of :func:`quarter_circle`."""

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return quarter_circle(interpolant, steps, t_start)


@dataclass(frozen=True)
class Ratios:
    """Looks at given noise-to-signal ratios, for as many steps as there are of them.

    As in other grids the first time is ``t_start`` whatever the first ratio.

    Attributes:
        kappas: at least two, falling, positive and finite.
    """

    kappas: tuple[float, ...]

    def __post_init__(self) -> None:
        fall = all(a > b for a, b in pairwise(self.kappas))
        if len(self.kappas) < 2 or not fall or not self.kappas[-1] > 0 or not self.kappas[0] < math.inf:
            raise ConfigError(f"kappas must fall from a finite to a positive ratio, got {self.kappas}")

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        _check(steps, t_start)
        low, high = (float(interpolant.kappa(t)) for t in (interpolant.t_max, t_start))
        slack = 1e-9  # a schedule for this very start may end in other digits
        if steps != len(self.kappas):
            raise ConfigError(f"{len(self.kappas)} kappas are a grid of so many steps, and steps is {steps}")
        if self.kappas[0] > high * (1 + slack) or self.kappas[-1] < low * (1 - slack):
            raise ConfigError(
                f"the path runs from kappa = {high:g} (at t_start {t_start:g}) to {low:g}, and kappas from "
                f"{self.kappas[0]:g} to {self.kappas[-1]:g}; they were made for another path"
            )
        kappas = torch.tensor(self.kappas, dtype=torch.float64).clamp(low, high)
        times = torch.cat([interpolant.t_of_kappa(kappas), torch.ones(1, dtype=torch.float64)])
        times[0] = t_start
        return validate_grid(times)


def _positive(grid: str, name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{grid} needs {name} > 0, got {value}")


GRIDS: dict[str, type[Grid]] = {
    "uniform": Uniform,
    "log-snr": LogSNR,
    "karras": Karras,
    "poly-exponential": PolyExponential,
    "shifted": Shifted,
    "quarter-circle": QuarterCircle,
    "dynamic-shifted": DynamicShifted,
    "stretched": Stretched,
    "spaced": Spaced,
}


def get_grid(grid: str | Grid) -> Grid:
    """Return a grid recipe as it is, or the one of this name with its default settings.

    Raises:
        UnknownName: if no grid has this name.
        ConfigError: if neither a name nor a recipe is given.
    """
    if isinstance(grid, str):
        try:
            return GRIDS[grid.lower().replace("_", "-")]()
        except KeyError:
            raise unknown_name("time grid", grid, GRIDS) from None
    if isinstance(grid, type) or not callable(grid):
        raise ConfigError(
            f"a time grid must be a name ({', '.join(GRIDS)}) or a recipe such as Karras(), got {grid!r}"
        )
    return grid
