"""GLASS: the exact stochastic transition, by an ODE inside the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess, Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.leg import InnerName, get_inner
from itscale.solvers.posterior_flow import PosteriorFlow
from itscale.solvers.schedule import Schedule


@dataclass(frozen=True)
class GlassKernel:
    """``x+ = kept x + pulled x_1 + std n`` with x_1 drawn given x: the sum of the last two is an inner flow.

    Attributes:
        flows: per level but the last.
        kept, scale: factors on the state and on the end of the flow, likewise.
        noisy: whether the move uses noise, likewise.
    """

    flows: tuple[PosteriorFlow, ...]
    kept: tuple[float, ...]
    scale: tuple[float, ...]
    noisy: tuple[bool, ...]
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False

    def is_noisy(self, level: int) -> bool:
        return level < len(self.flows) and self.noisy[level]

    def extra_looks(self, level: int) -> int:
        return self.flows[level].looks if level < len(self.flows) else 0

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        if level == len(self.flows):
            return Move(at.denoised)
        noise = at.x.new_zeros(at.x.shape) if z is None else z
        y = self.flows[level](at, noise, look)
        return Move(y.mul_(self.scale[level]).add_(at.x, alpha=self.kept[level]), z)


@dataclass(frozen=True, kw_only=True)
class Glass:
    """Transitions of the exact law of the next state given this one, for any diffusion coefficient.

    Given the data ``x_1`` a step of the process is Gaussian, and solvers put the denoised sample for
    ``x_1``. Here ``x_1`` itself is drawn, by ``inner_steps`` steps of an inner flow that starts at the
    step's noise and asks the same model, so that a step may be long: the error left is the inner one. With
    one inner step it is ``ancestral``. Order 1 in the outer steps, with a constant that inner steps lower;
    ``inner_steps`` evaluations a step, one on the last. No memory.

    The transition is a smooth function of one standard normal, not Gaussian: guided moves are weighted
    exactly, and what needs a transition density is refused. For an exact model and a given number of
    evaluations, more plain steps do as well; for a model trained for few steps this may be the better use.

    Attributes:
        inner_steps: steps of the inner flow.
        inner_solver: its solver, ``"dpm++2m"`` (better from 3 inner steps on), or ``"ddim"`` as published.

    Reference:
        Holderrieth et al. (2025), "GLASS Flows: Transition Sampling for Alignment of Flow and Diffusion
        Models", arXiv:2509.25170. There for the natural coefficient.
    """

    inner_steps: int = 4
    inner_solver: InnerName = "dpm++2m"
    is_stochastic: ClassVar[bool] = True
    order: ClassVar[int] = 1
    history: ClassVar[int] = 0
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        steps = self.inner_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ConfigError(f"inner_steps must be a whole number >= 1, got {steps!r}")
        get_inner(self.inner_solver)

    @property
    def evaluations(self) -> int:
        return self.inner_steps

    def build(self, process: ContinuousProcess, times: Tensor) -> GlassKernel:
        schedule = Schedule.of(process, times)
        levels = range(schedule.steps - 1)
        pulled, std = ([f(k) for k in levels] for f in (schedule.pulled, schedule.noise_std))
        flows = tuple(
            PosteriorFlow.build(process, schedule.t[k], self.inner_steps, self.inner_solver, a / (a + b))
            for k, a, b in zip(levels, pulled, std, strict=True)
        )
        return GlassKernel(
            flows,
            tuple(schedule.kept(k) for k in levels),
            tuple(a + b for a, b in zip(pulled, std, strict=True)),
            tuple(b > 0 or self.inner_steps > 1 for b in std),
        )
