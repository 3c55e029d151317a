"""Unconditional diffusion on pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.conditions import Conditions, Encoding
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.requests import Request
from itscale.types import State


@dataclass(frozen=True, eq=False, kw_only=True)
class Unconditional(PipelineModel):
    """A U-Net on pixels in [-1, 1] that takes no condition.

    Reference:
        Ho, Jain and Abbeel (2020), "Denoising Diffusion Probabilistic Models", arXiv:2006.11239.
    """

    family: ClassVar[str] = "unconditional"
    classes: ClassVar[tuple[str, ...]] = ("DDPMPipeline", "DDIMPipeline")

    @property
    def network(self) -> Any:
        return self.pipe.unet

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.network.config.in_channels, *self.size)

    def encode(self, conditions: Sequence[Any]) -> Encoding | None:
        """Accept groups without a condition.

        Raises:
            ConfigError: for any condition.
        """
        for condition in conditions:
            if condition is not None:
                raise ConfigError(f"condition {condition!r} was given, and {self.name} takes none")
        return None

    def predict_at(self, x: State, t: Any, label: Tensor, condition: Encoding | None) -> State:
        return super().predict_at(x, t, label, Conditions.of([{}] * len(x)))

    def check_conditions(self, conditions: Sequence[Any]) -> None:
        self.encode(conditions)

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        return {}

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        return self.network(x, label, return_dict=False)[0]
