"""Stable Diffusion 3 and 3.5, with IP-Adapter and ControlNet inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from itscale.models.conditions import Conditions
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.requests import Request, inputs_of
from itscale.models.pipelines.shifts import shift_exponent


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusion3(PipelineModel):
    """A flow on 16 latent channels by a transformer that reads three text encoders.

    Attributes:
        max_sequence_length: tokens of the T5 encoder.
        clip_skip: last layers of the CLIP encoders to leave out.
        control_scale: weight of a ControlNet's output.

    Reference:
        Esser et al. (2024), "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis",
        arXiv:2403.03206.
    """

    max_sequence_length: int = 256
    clip_skip: int | None = None
    control_scale: float = 1.0

    family: ClassVar[str] = "stable-diffusion-3"
    classes: ClassVar[tuple[str, ...]] = (
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3ControlNetPipeline",
    )

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
        return {"prompt": embeds[0], "pooled": pooled[0], **self._embed_inputs(request)}

    @property
    def inputs(self) -> tuple[str, ...]:
        has_adapter = getattr(self.network, "image_proj", None) is not None
        return inputs_of(self.pipe, has_adapter)

    def _embed_inputs(self, request: Request) -> dict[str, Tensor]:
        """What an IP-Adapter and a ControlNet are given."""
        found: dict[str, Tensor] = {}
        if (image := request.inputs.get("ip_adapter_image")) is not None:
            pair = self.pipe.prepare_ip_adapter_image_embeds(image, None, self.device, 1, True)
            found["image"] = pair[0 if request.is_opposite else 1]  # the embedding of no image comes first
        if (image := request.inputs.get("control_image")) is not None:
            height, width = self.size
            pixels = self.pipe.prepare_image(
                image=image,
                width=width,
                height=height,
                batch_size=1,
                num_images_per_prompt=1,
                device=self.device,
                dtype=self.pipe.vae.dtype,
            )
            shift = 0.0 if self._is_control_bare else self.latents.shift
            states = self.latents.encoded(pixels)  # the mode: a condition is the same at every call
            found["control"] = (states + (self.latents.shift - shift) * self.latents.scale)[0]
        return found

    @property
    def _is_control_bare(self) -> bool:
        """Whether the ControlNet was trained on latents without their shift, and on no pooled embedding."""
        return bool(self.pipe.controlnet.config.force_zeros_for_pooled_projection)

    def _control(self, x: Tensor, label: Tensor, given: Conditions) -> Any:
        """What a ControlNet adds to the blocks; None without one."""
        if "control" not in given:
            return None
        net, pooled = self.pipe.controlnet, given["pooled"]
        return net(
            hidden_states=x,
            timestep=label,
            encoder_hidden_states=None if net.config.joint_attention_dim is None else given["prompt"],
            pooled_projections=torch.zeros_like(pooled) if self._is_control_bare else pooled,
            controlnet_cond=given["control"].to(x.dtype),
            conditioning_scale=self.control_scale,
            return_dict=False,
        )[0]

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
            block_controlnet_hidden_states=self._control(x, label, given),
            joint_attention_kwargs={"ip_adapter_image_embeds": given["image"]} if "image" in given else None,
            return_dict=False,
        )[0]
