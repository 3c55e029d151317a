"""DiT: class-conditional images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor

from itscale.errors import ConfigError, did_you_mean
from itscale.models.conditions import Conditions, Encoding
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.requests import Request


@dataclass(frozen=True, eq=False, kw_only=True)
class DiT(PipelineModel):
    """A diffusion transformer on latents, conditional on one of its classes.

    Conditions are indices of classes, their names where the pipeline knows these, or None. It also predicts
    variances, which samplers of the noise alone leave.

    Reference:
        Peebles and Xie (2022), "Scalable Diffusion Models with Transformers", arXiv:2212.09748.
    """

    family: ClassVar[str] = "dit"
    classes: ClassVar[tuple[str, ...]] = ("DiTPipeline",)

    @property
    def network(self) -> Any:
        return self.pipe.transformer

    @property
    def event_shape(self) -> tuple[int, ...]:
        height, width = (side // self.latents.factor for side in self.size)
        return (self.network.config.in_channels, height, width)

    @property
    def multiple(self) -> int:
        return self.latents.factor * self.network.config.patch_size

    def encode(self, conditions: Sequence[Any]) -> Encoding | None:
        """Encode classes, one per group.

        Raises:
            ConfigError: for a class that the network does not know.
        """
        requests = [Request(self._class_of(condition)) for condition in conditions]
        return Conditions.of([self._entry(request) for request in requests])

    def _class_of(self, condition: Any) -> int:
        count = self.network.config.num_embeds_ada_norm
        if condition is None:
            return count
        names: dict[str, int] = getattr(self.pipe, "labels", None) or {}
        if isinstance(condition, str):
            if condition not in names:
                known = did_you_mean(condition, names) if names else " This pipeline names none."
                raise ConfigError(
                    f"condition {condition!r} is no class.{known} Give an index 0 to {count - 1}"
                )
            return names[condition]
        whole = isinstance(condition, Integral) and not isinstance(condition, bool)
        if not whole or not 0 <= int(condition) < count:
            raise ConfigError(f"condition {condition!r} is no class; give an index 0 to {count - 1}, or None")
        return int(condition)

    def check_conditions(self, conditions: Sequence[Any]) -> None:
        self.encode(conditions)

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        return {"class": torch.tensor(request.prompt)}

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        labels = given["class"].to(x.device)
        raw = self.network(x, timestep=label, class_labels=labels, return_dict=False)[0]
        return raw[:, : x.shape[1]]  # what follows are variances
