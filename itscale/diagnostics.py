"""How much a trajectory wavered: the variance of its denoised samples near the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.engine import Step
from itscale.errors import ConfigError
from itscale.interpolants import Interpolant, get_interpolant
from itscale.models.base import Model
from itscale.process import Evaluation


@dataclass(eq=False)
class TrajectoryVariance:
    """A callback that finds samples which hesitated between modes; give it to ``sample`` as ``on_step``.

    ``values`` is the mean over coordinates of the population variance of the denoised samples in a window
    of late levels, (groups, particles); it costs no evaluation. Follows particles through resampling. Compare
    values within one run only: they depend on the grid. The window should span about three times the finest
    scale of the data in ``kappa``; a longer one ranks samples the wrong way round. With an exact model there
    is nothing to find, and selecting by it favours sharp modes.

    Args:
        model: the model of the run.
        kappa_window: noise-to-signal ratios (low, high) of the levels that count.
        interpolant: path of the run, if it is not the model's own.

    Reference:
        Aithal et al. (2024), "Understanding Hallucinations in Diffusion Models through Mode Interpolation",
        arXiv:2406.09358, its metric.
    """

    model: Model
    kappa_window: tuple[float, float] = (0.0, 0.2)
    interpolant: str | Interpolant | None = None
    count: int = 0
    _mean: Tensor | None = field(default=None, repr=False)
    _squares: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        low, high = self.kappa_window
        if not 0 <= low < high:
            raise ConfigError(
                f"kappa_window must be (low, high) with 0 <= low < high, got {self.kappa_window}"
            )
        self._path = self.model.interpolant if self.interpolant is None else get_interpolant(self.interpolant)

    def __call__(self, step: Step) -> None:
        p = step.particles
        if step.level <= 1:
            self._mean = self._squares = None
            self.count = 0
        if self._mean is not None and self._squares is not None:  # where the particles came from
            g, n = step.ancestors.shape
            flat = (step.ancestors + self._mean.shape[1] * torch.arange(g)[:, None]).reshape(-1)
            self._mean, self._squares = (
                m.flatten(0, 1)[flat].reshape(g, n, -1) for m in (self._mean, self._squares)
            )
        alpha = float(self._path.alpha(step.t))
        kappa = math.inf if alpha == 0 else float(self._path.sigma(step.t)) / alpha
        low, high = self.kappa_window
        if p.rows.raw is None or not low <= kappa <= high:
            return
        t = torch.tensor(step.t, dtype=torch.float64)
        at = Evaluation(p.rows.x, t, self.model.predicts, p.rows.raw, self._path)
        value = at.denoised.detach().cpu().double().reshape(*p.level.shape, -1)
        if self._mean is None or self._squares is None:
            self._mean, self._squares = torch.zeros_like(value), torch.zeros_like(value)
        self.count += 1  # Welford's update
        change = value - self._mean
        self._mean = self._mean + change / self.count
        self._squares = self._squares + change * (value - self._mean)

    @property
    def values(self) -> Float64[Tensor, "g n"]:
        """The metric of every particle; larger means less trustworthy.

        Raises:
            ConfigError: if fewer than two levels of the run lay in the window.
        """
        if self.count < 2 or self._squares is None:
            raise ConfigError(
                f"{self.count} levels lay in kappa_window={self.kappa_window}; widen it or use more steps"
            )
        return self._squares.mean(-1) / self.count
