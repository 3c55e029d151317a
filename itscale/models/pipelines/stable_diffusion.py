"""Stable Diffusion 1.x and 2.x, with IP-Adapter and ControlNet inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from itscale.models.base import Given
from itscale.models.conditions import Conditions
from itscale.models.guidance import GuidanceLike, told
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.requests import Request, inputs_of
from itscale.types import sent


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusion(PipelineModel):
    """A U-Net with cross-attention to CLIP embeddings; 4 latent channels at an eighth of the size.

    Attributes:
        clip_skip: last layers of the text encoder to leave out.
        control_scale: weight of a ControlNet's output.
        embedded_guidance: the guidance weight that a network distilled to take one is told; ``guidance`` of a
            run sets it then, and costs nothing.

    Reference:
        Rombach et al. (2022), "High-Resolution Image Synthesis with Latent Diffusion Models",
        arXiv:2112.10752.
    """

    clip_skip: int | None = None
    control_scale: float = 1.0
    embedded_guidance: float = 7.5

    family: ClassVar[str] = "stable-diffusion"
    classes: ClassVar[tuple[str, ...]] = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionControlNetPipeline",
    )

    @property
    def network(self) -> Any:
        return self.pipe.unet

    @property
    def event_shape(self) -> tuple[int, ...]:
        height, width = (side // self.latents.factor for side in self.size)
        return (self.pipe.unet.config.in_channels, height, width)

    @property
    def inputs(self) -> tuple[str, ...]:
        return inputs_of(self.pipe, getattr(self.pipe.unet, "encoder_hid_proj", None) is not None)

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        embeds, *_ = self.pipe.encode_prompt(
            request.prompt or "", self.device, 1, False, clip_skip=self.clip_skip
        )
        return {"prompt": embeds[0], **self.embed_inputs(request)}

    def embed_inputs(self, request: Request) -> dict[str, Tensor]:
        """What IP-Adapters and a ControlNet are given."""
        found: dict[str, Tensor] = {}
        if (image := request.inputs.get("ip_adapter_image")) is not None:
            pairs = self.pipe.prepare_ip_adapter_image_embeds(image, None, self.device, 1, True)
            which = 0 if request.is_opposite else 1  # the embedding of no image comes first
            found |= {f"image_{i}": pair[which] for i, pair in enumerate(pairs)}
        if (image := request.inputs.get("control_image")) is not None:
            height, width = self.size
            found["control"] = self.pipe.prepare_image(
                image=image,
                width=width,
                height=height,
                batch_size=1,
                num_images_per_prompt=1,
                device=self.device,
                dtype=self.pipe.controlnet.dtype,
            )[0]
        return found

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        more = self.more(given)
        residuals: dict[str, Any] = {}
        if "control" in given:
            down, middle = self.pipe.controlnet(
                x,
                label,
                encoder_hidden_states=given["prompt"],
                controlnet_cond=given["control"],
                conditioning_scale=self.control_scale,
                added_cond_kwargs=more,
                return_dict=False,
            )
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return self.pipe.unet(
            x,
            label,
            encoder_hidden_states=given["prompt"],
            timestep_cond=self._guidance_embedding(len(x), x),
            added_cond_kwargs=more,
            return_dict=False,
            **residuals,
        )[0]

    def more(self, given: Conditions) -> dict[str, Any] | None:
        """What the U-Net is told beside the prompt."""
        images = [given[name] for name in given.table if name.startswith("image_")]
        return {"image_embeds": images} if images else None

    def _guidance_embedding(self, rows: int, like: Tensor) -> Tensor | None:
        """The embedded guidance weight of a distilled network; others take none."""
        return (
            None
            if self._embedding is None
            else sent(self._embedding.to(like.dtype), like.device).expand(rows, -1)
        )

    @cached_property
    def _embedding(self) -> Tensor | None:
        size = self.pipe.unet.config.time_cond_proj_dim
        if size is None:
            return None
        weight = torch.tensor([self.embedded_guidance - 1.0])
        return self.pipe.get_guidance_scale_embedding(weight, embedding_dim=size)

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Given:
        if self._embedding is None or guidance == 1.0:
            return Given(self, condition, guidance)
        return Given(replace(self, embedded_guidance=told(guidance)), condition, 1.0)
