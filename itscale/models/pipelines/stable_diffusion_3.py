"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from itscale.models.conditions import Conditions
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.requests import Request
from itscale.models.pipelines.shifts import shift_exponent


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusion3(PipelineModel):
    """A flow on 16 latent channels by a transformer that reads three text encoders.

    Attributes:
        max_sequence_length: tokens of the T5 encoder.
        clip_skip: last layers of the CLIP encoders to leave out.

    Reference:
        Esser et al. (2024), "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis",
        arXiv:2403.03206.
    """

    max_sequence_length: int = 256
    clip_skip: int | None = None

    family: ClassVar[str] = "stable-diffusion-3"
    classes: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline")

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

    @property
    def token_count(self) -> int:
        _, height, width = self.event_shape
        patch = self.network.config.patch_size
        return (height // patch) * (width // patch)

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        embeds, _, pooled, _ = self.pipe.encode_prompt(
            request.prompt or "",
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            clip_skip=self.clip_skip,
            max_sequence_length=self.max_sequence_length,
        )
        return {"prompt": embeds[0], "pooled": pooled[0]}

    def set_timesteps(self, scheduler: Any, steps: int) -> None:
        if not scheduler.config.get("use_dynamic_shifting", False):
            scheduler.set_timesteps(steps)
            return
        scheduler.set_timesteps(steps, mu=shift_exponent(scheduler, self.token_count, 1.16))

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        return self.network(
            hidden_states=x,
            timestep=label,
            encoder_hidden_states=given["prompt"],
            pooled_projections=given["pooled"],
            return_dict=False,
        )[0]
