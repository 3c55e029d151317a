"""The reward of where a flow map sends a state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from itscale.errors import ConfigError
from itscale.process import ContinuousProcess
from itscale.scoring import names
from itscale.types import State
from itscale.values.base import ScoreCost, Sight


@dataclass(frozen=True)
class FlowMapForecast:
    """A map, asked at the times of a grid."""

    map: Callable[..., State]
    times: tuple[float, ...]
    looks: int

    @property
    def cost(self) -> ScoreCost:
        return ScoreCost(looks=self.looks, is_denoised=False)

    def __call__(self, sight: Sight) -> Tensor:
        t = self.times[sight.level]

        def network(x: State, condition: Tensor | None) -> State:
            return self.map(x, t) if condition is None else self.map(x, t, condition)

        return sight.call(network, sight.at.x, None)[:, None]


@dataclass(frozen=True)
class FlowMap:
    """The reward of ``X_(t,1)(x)``, the end of the ODE from ``(x, t)`` as a distilled network gives it.

    The gradient-free form of flow-map tilting: weights telescope over ``tilt r(X)``, so any map, exact or
    not, leaves the target as it is.

    Cost: one call of the map, which counts as one look, and one reward call a score. Target: any method's.

    Attributes:
        map: ``map(x, t)``, or ``map(x, t, condition)`` for a conditional model: states (rows, *event) on the
            path of the run and its time (a number) to data (rows, *event); or ``"module:function"``.
        looks: what a call counts as; 0 for a map that is no network.

    Reference:
        Sabour et al. (2025), "Test-time scaling of diffusions with flow maps", arXiv:2511.22688.
    """

    map: Callable[..., State] | str
    looks: int = 1

    def __post_init__(self) -> None:
        if not (callable(self.map) or isinstance(self.map, str)):
            raise ConfigError(f"map must be a function of (x, t), or 'module:function', got {self.map!r}")
        if isinstance(self.looks, bool) or not isinstance(self.looks, int) or self.looks < 0:
            raise ConfigError(f"looks of a flow map must be a whole number >= 0, got {self.looks!r}")

    def build(self, process: ContinuousProcess, times: Tensor) -> FlowMapForecast:
        return FlowMapForecast(self._function(), tuple(times.tolist()), self.looks)

    def _function(self) -> Callable[..., State]:
        if not isinstance(self.map, str):
            return self.map
        reference = names.split_reference(self.map)
        if reference is None:
            raise ConfigError(f"map must be 'module:function' or './file.py:function', got {self.map!r}")
        return names.load_reference(reference[0])
