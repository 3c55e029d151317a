"""The soft value itself, by draws of what a state may become."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess
from itscale.solvers.leg import InnerName, get_inner
from itscale.solvers.posterior_flow import PosteriorFlow
from itscale.types import State
from itscale.values.base import ScoreCost, Sight


@dataclass(frozen=True)
class ManySampleForecast:
    """Draws of the data given the state: by a flow per level, or Gaussian with a deviation per level."""

    samples: int
    common: bool
    flows: tuple[PosteriorFlow, ...] = ()
    stds: tuple[float, ...] = ()

    @property
    def cost(self) -> ScoreCost:
        looks = self.flows[0].looks if self.flows else 0
        return ScoreCost(self.samples * looks, self.samples, is_denoised=False)

    def __call__(self, sight: Sight) -> Tensor:
        n = self._normals(sight)
        if not self.flows:
            return sight.at.denoised[:, None] + self.stds[sight.level] * n
        rows = torch.arange(len(n)).repeat_interleave(self.samples)
        return self.flows[sight.level](sight.at, n.flatten(0, 1), sight.look, rows).reshape(n.shape)

    def _normals(self, sight: Sight) -> State:
        """Independent normals (rows, samples, *event), or common ones in pairs of opposite sign."""
        if not self.common:
            return sight.normals(self.samples, False)
        half = sight.normals((self.samples + 1) // 2, True)
        return torch.cat([half, -half[:, : self.samples // 2]], dim=1)


@dataclass(frozen=True, kw_only=True)
class ManySample:
    """``log E[exp(tilt r(x_1)) | x_t]`` estimated by draws of ``x_1``: what the reward of the mean is not.

    The draws come from the inner flow of ``solvers.Glass``, which is exact in the limit of many inner
    steps, or, with ``spread``, from a Gaussian around the denoised sample, which costs no look.

    Cost: ``samples (inner_steps - 1)`` looks (none with ``spread``) and ``samples`` reward calls a score.
    Target: any method's, unchanged: fresh draws are one more source of chance in early weights, not in the
    last. The noise of few fresh draws can cost more than it tells; ``common`` ones cancel between particles.

    Attributes:
        samples: draws a score.
        inner_steps: steps of the flow; 1 draws nothing but the denoised sample.
        inner_solver: its solver, ``"dpm++2m"`` or ``"ddim"``.
        spread: (steps,) posterior variance of the data per coordinate at every level of the grid, such as a
            profile of ``itscale.calibrate`` has: Gaussian draws in place of the flow.
        common: the same normals for all particles of a group and all levels, in pairs of opposite sign.

    Reference:
        Holderrieth et al. (2025), "GLASS Flows", arXiv:2509.25170 (the draws); Li et al. (2024),
        arXiv:2408.08252, eq. (5) (the soft value).
    """

    samples: int = 4
    inner_steps: int = 4
    inner_solver: InnerName = "dpm++2m"
    spread: tuple[float, ...] | None = None
    common: bool = False

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("inner_steps", 2)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} of ManySample must be a whole number >= {least}, got {value!r}")
        get_inner(self.inner_solver)
        if self.spread is not None:
            object.__setattr__(self, "spread", tuple(self.spread))
            if not all(0 <= v < float("inf") for v in self.spread):
                raise ConfigError(f"spread must hold finite variances >= 0, got {self.spread!r}")

    def build(self, process: ContinuousProcess, times: Tensor) -> ManySampleForecast:
        if self.spread is None:
            flows = (
                PosteriorFlow.build(process, t, self.inner_steps, self.inner_solver)
                for t in times[:-2].tolist()
            )
            return ManySampleForecast(self.samples, self.common, tuple(flows))
        if len(self.spread) != len(times) - 1:
            raise ConfigError(
                f"spread has {len(self.spread)} entries for {len(times) - 1} steps; give one each"
            )
        return ManySampleForecast(self.samples, self.common, stds=tuple(v**0.5 for v in self.spread))
