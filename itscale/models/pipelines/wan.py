"""Wan 2.1 and 2.2: videos from text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.conditions import Conditions, Encoding, rows_of
from itscale.models.pipelines.requests import Request
from itscale.models.pipelines.video import VideoPipeline
from itscale.types import State, Time


@dataclass(frozen=True, eq=False, kw_only=True)
class Wan(VideoPipeline):
    """A flow on latents (channels, frames, height, width).

    Wan 2.2 has a second network for the later part, from ``boundary_ratio`` of its configuration on. One
    guidance weight serves both; give the second network another one by composing models.

    Attributes:
        max_sequence_length: tokens of the prompt.
        late: ask the second network alone.

    Reference:
        Wan Team (2025), "Wan: Open and Advanced Large-Scale Video Generative Models", arXiv:2503.20314.
    """

    max_sequence_length: int = 512
    late: bool = False

    family: ClassVar[str] = "wan"
    classes: ClassVar[tuple[str, ...]] = ("WanPipeline",)

    @property
    def network(self) -> Any:
        first, second = self.pipe.transformer, self.pipe.transformer_2
        return second if self.late or first is None else first

    @property
    def native_size(self) -> int:
        raise ConfigError("videos have no size of their own; give height and width, such as 480 and 832")

    @property
    def multiple(self) -> int:
        return self.latents.factor * self.network.config.patch_size[1]

    @property
    def frame_step(self) -> int:
        return int(self.pipe.vae_scale_factor_temporal)

    @property
    def event_shape(self) -> tuple[int, ...]:
        height, width = (side // self.latents.factor for side in self.size)
        return (self.network.config.in_channels, self.latent_frames, height, width)

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        embeds, _ = self.pipe.encode_prompt(
            prompt=request.prompt or "",
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
            device=self.device,
        )
        return {"prompt": embeds[0].to(self._network_dtype)}

    def predict_at(self, x: State, t: Time, label: Tensor, condition: Encoding | None) -> State:
        """Ask the network of each row's time; rows on both sides of the boundary are split."""
        boundary = self.pipe.config.boundary_ratio
        if boundary is None or self.late or self.pipe.transformer is None:
            return super().predict_at(x, t, label, condition)
        is_late = label < boundary * self.pipe.scheduler.config.num_train_timesteps
        if bool(is_late.all()):
            return self._second.predict_at(x, t, label, condition)
        if not bool(is_late.any()):
            return super().predict_at(x, t, label, condition)
        raw = torch.empty_like(x)
        for model, rows in ((self, (~is_late).nonzero()[:, 0]), (self._second, is_late.nonzero()[:, 0])):
            own = None if condition is None else rows_of(condition, rows)
            here = rows.to(x.device)
            raw[here] = model.predict_at(x[here], t, label[rows], own)
        return raw

    @cached_property
    def _second(self) -> Wan:
        return replace(self, late=True)

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        if self.pipe.config.expand_timesteps:  # the 5B network takes a time for every token
            _, frames, height, width = self.event_shape
            label = label[:, None].expand(-1, frames * (height // 2) * (width // 2))
        return self.network(
            hidden_states=x, timestep=label, encoder_hidden_states=given["prompt"], return_dict=False
        )[0]
