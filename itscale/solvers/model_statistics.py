"""What DPM-Solver-v3 has to know of a model: a linear part, a scaling and a bias per noise level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.base import Model
from itscale.process import ODE, ContinuousProcess

Numbers = NDArray[np.float64]
_SHIFT = 0.02  # in log-SNR, for derivatives along the trajectory


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """Coefficients l, s and b as piecewise linear functions of ``lam = -log kappa``.

    With ``y = x / alpha`` and ``N = y - D`` the ODE is ``dy / dlam = -N``. Its linear part is taken out,
    ``f = N - l y``, and ``f' = s f + b`` predicts the rest. ``l = 1, s = b = 0`` is the data form
    (DPM-Solver++), ``l = b = 0, s = -1`` the noise form (DPM-Solver).

    Attributes:
        lam: rising, (n,).
        l, s, b: (n, *shape), shape broadcasting against an event: (d,) or (channels, 1, 1).

    Reference:
        Zheng et al. (2023), "DPM-Solver-v3", arXiv:2310.13268, its coefficients l, s, b. The release has no
        estimator: :func:`estimate` is our own.
    """

    lam: Float64[Tensor, " n"]
    l: Float64[Tensor, "n *shape"]  # noqa: E741  the paper's letter
    s: Float64[Tensor, "n *shape"]
    b: Float64[Tensor, "n *shape"]

    def __post_init__(self) -> None:
        values = (self.lam, self.l, self.s, self.b)
        shapes = {tuple(v.shape) for v in values[1:]}
        if self.lam.ndim != 1 or len(self.lam) < 2 or len(shapes) != 1 or len(self.l) != len(self.lam):
            raise ConfigError(
                "statistics need lam (n,), n >= 2, and l, s, b of one shape (n, ...), got "
                f"{[tuple(v.shape) for v in values]}"
            )
        if not all(bool(v.isfinite().all()) for v in values) or not bool((self.lam.diff() > 0).all()):
            raise ConfigError("statistics must be finite, and lam must rise")

    def at(self, lam: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """l, s and b at ``lam`` (m,), each (m, *shape)."""
        grid = self.lam.numpy()
        i = np.clip(np.searchsorted(grid, lam) - 1, 0, len(grid) - 2)
        w = ((lam - grid[i]) / (grid[i + 1] - grid[i])).reshape(-1, *[1] * (self.l.ndim - 1))
        l, s, b = ((1 - w) * v[i] + w * v[i + 1] for v in (t.numpy() for t in (self.l, self.s, self.b)))  # noqa: E741
        return l, s, b

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` file."""
        with open(path, "wb") as file:
            np.savez(file, lam=self.lam.numpy(), l=self.l.numpy(), s=self.s.numpy(), b=self.b.numpy())

    @classmethod
    def load(cls, path: str | Path) -> ModelStatistics:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigError: if the file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(*(torch.from_numpy(file[k].astype(np.float64)) for k in ("lam", "l", "s", "b")))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(f"{path} holds no statistics: {type(error).__name__}: {error}") from error


def estimate(
    model: Model,
    data: Tensor,
    kappas: tuple[float, float] = (80.0, 0.01),
    points: int = 120,
    probes: int = 4,
    seed: int = 0,
    condition: Tensor | None = None,
) -> ModelStatistics:
    """Estimate the statistics of a model along noised data.

    ``l`` is the mean diagonal of dN/dy, by central differences along random signs; s and b are the least
    squares of f' on f. One noise and one set of signs per sample serve every level: with fresh ones the
    tables are rough and the solver stops converging. Costs ``points (2 probes + 7) len(data)`` rows.
    Statistics are per coordinate of vectors, per channel of images. A guided model needs its own for every
    guidance.

    Args:
        data: samples of the data or of the model, (k, *event); 512 and more.
        kappas: noise-to-signal ratios (high, low) that the model knows.
        points: levels, equal in log-SNR.

    Raises:
        ConfigError: for data of another shape, or settings out of range.
    """
    high, low = kappas
    if tuple(data.shape[1:]) != tuple(model.event_shape) or len(data) < 2:
        raise ConfigError(
            f"data must be at least 2 samples (k, *{model.event_shape}), got {tuple(data.shape)}"
        )
    if not 0 < low < high < math.inf or points < 2 or probes < 1:
        raise ConfigError(
            "statistics need kappas (high, low) positive and finite, points >= 2 and probes >= 1, got "
            f"{kappas}, {points}, {probes}"
        )
    process = ContinuousProcess.of(model.to(data.device), ODE())
    path = process.interpolant
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(data.shape, generator=generator, dtype=data.dtype).to(data.device)
    drawn = generator.get_state()
    spread = float(data.double().var(0).mean())
    relative = 1e-4 if data.dtype == torch.float64 else 1e-2
    axes = (0, *range(2, data.ndim)) if data.ndim > 2 else (0,)
    lam = torch.linspace(-math.log(high), -math.log(low), points, dtype=torch.float64)

    def n_of(y: Tensor, at: float) -> Tensor:
        t = path.t_of_kappa(math.exp(-at)).clamp(path.t_min, path.t_max)
        return y - process.evaluate(float(path.alpha(t)) * y, t, condition).denoised

    def mean(values: Tensor) -> Tensor:
        return values.double().mean(axes, keepdim=True)[0].cpu()

    def slope(at: float) -> Tensor:
        y, total = data + math.exp(-at) * z, torch.zeros(1)
        step = relative * math.sqrt(math.exp(-2 * at) + spread)
        signs = generator.set_state(drawn)
        for _ in range(probes):
            v = 2.0 * torch.randint(0, 2, data.shape, generator=signs).to(data) - 1
            total = total + mean(v * (n_of(y + step * v, at) - n_of(y - step * v, at))) / (2 * step)
        return total / probes

    with torch.no_grad():
        l = torch.stack([slope(float(at)) for at in lam])  # noqa: E741
        table = ModelStatistics(lam, l, torch.zeros_like(l), torch.zeros_like(l))
        s, b = zip(*(_regression(table, data, z, float(at), n_of, mean) for at in lam), strict=True)
    return ModelStatistics(lam, l, torch.stack(s), torch.stack(b))


def _regression(
    table: ModelStatistics,
    data: Tensor,
    z: Tensor,
    lam: float,
    n_of: Callable[[Tensor, float], Tensor],
    mean: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Slope and intercept of f' on f, f' by Heun steps both ways along the ODE."""
    low, high = float(table.lam[0]), float(table.lam[-1])
    shift = min(_SHIFT, (high - low) / 4)
    lam = min(max(lam, low + shift), high - shift)  # both ways stay where the model is known
    y = data + math.exp(-lam) * z
    here = n_of(y, lam)

    def f(y: Tensor, n: Tensor, at: float) -> Tensor:
        return n.double() - torch.from_numpy(table.at(np.array([at]))[0])[0].to(y.device) * y.double()

    ends = []
    for d in (shift, -shift):
        ahead = y - d / 2 * (here + n_of(y - d * here, lam + d))
        ends.append(f(ahead, n_of(ahead, lam + d), lam + d))
    change, value = (ends[0] - ends[1]) / (2 * shift), f(y, here, lam)
    covariance = mean(change * value) - mean(change) * mean(value)
    variance = mean(value**2) - mean(value) ** 2
    # a model that is linear leaves f without spread, and rounding must not be regressed on
    tiny = (1e3 * torch.finfo(data.dtype).eps) ** 2 * mean(here.double() ** 2)
    s = torch.where(variance > tiny, covariance / variance, torch.zeros_like(variance))
    return s, mean(change) - s * mean(value)
