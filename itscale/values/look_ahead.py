"""The reward of where a few cheap steps of the ODE lead."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess
from itscale.solvers.leg import InnerName, Leg, get_inner
from itscale.values.base import ScoreCost, Sight


@dataclass(frozen=True)
class LookAheadForecast:
    """A leg to the data per level; ``legs[k]`` starts at level k."""

    legs: tuple[Leg, ...]

    @property
    def cost(self) -> ScoreCost:
        return ScoreCost(looks=self.legs[0].looks if self.legs else 0, is_denoised=False)

    def __call__(self, sight: Sight) -> Tensor:
        return self.legs[sight.level](sight.at, sight.look)[:, None]


@dataclass(frozen=True)
class LookAhead:
    """The reward of the end of a short ODE trajectory from the state.

    A sharper sample than the denoised one, and one draw of what the state may become, not their mean.

    Cost: ``steps - 1`` looks and one reward call a score; one step is ``Denoised``. Target: any method's,
    unchanged. At equal NFE it has to earn the particles that it costs; with an exact model it did not.

    Attributes:
        steps: of the trajectory, equal in time from the state's level to the data.
        inner_solver: ``"dpm++2m"`` or ``"ddim"``.

    Reference:
        Oshima et al. (2025), "Inference-Time Text-to-Video Alignment with Diffusion Latent Beam Search",
        arXiv:2501.19252 (few-step look-ahead in place of the denoised sample).
    """

    steps: int = 2
    inner_solver: InnerName = "dpm++2m"

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ConfigError(f"steps of a look-ahead must be a whole number >= 1, got {self.steps!r}")
        get_inner(self.inner_solver)

    def build(self, process: ContinuousProcess, times: Tensor) -> LookAheadForecast | None:
        if self.steps == 1:
            return None
        early = times[:-2].tolist()
        return LookAheadForecast(tuple(Leg.build(process, self._grid(t), self.inner_solver) for t in early))

    def _grid(self, t: float) -> list[float]:
        return [t + (1 - t) * k / self.steps for k in range(self.steps)] + [1.0]
