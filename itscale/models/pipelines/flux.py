"""FLUX.1 dev and schnell, with IP-Adapter and ControlNet inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.base import Given
from itscale.models.conditions import Conditions
from itscale.models.guidance import GuidanceLike, told
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.requests import Request, inputs_of
from itscale.models.pipelines.shifts import shift_exponent


@dataclass(frozen=True, eq=False, kw_only=True)
class Flux(PipelineModel):
    """A flow on 16 latent channels, packed in squares of four: states are (tokens, 64).

    The guidance weight of dev is an input of its network and costs nothing: ``guidance`` of a run sets it.
    Schnell was distilled to run without one. ``true_guidance`` makes ``guidance`` two rows per look instead,
    led away from ``negative_prompt``.

    Attributes:
        embedded_guidance: the weight that dev's network is told.
        true_guidance: whether ``guidance`` is classifier-free guidance.
        max_sequence_length: tokens of the T5 encoder; None is 512, for schnell 256.
        control_scale: weight of a ControlNet's output.
        control_mode: what the control image shows, where a ControlNet was trained on several kinds.

    Reference:
        Black Forest Labs (2024), FLUX.1; the path is that of Esser et al. (2024), arXiv:2403.03206.
    """

    embedded_guidance: float = 3.5
    true_guidance: bool = False
    max_sequence_length: int | None = None
    control_scale: float = 1.0
    control_mode: int | None = None

    family: ClassVar[str] = "flux"
    classes: ClassVar[tuple[str, ...]] = (
        "FluxPipeline",
        "FluxImg2ImgPipeline",
        "FluxControlNetPipeline",
    )

    @property
    def network(self) -> Any:
        return self.pipe.transformer

    @property
    def native_size(self) -> int:
        return int(self.pipe.default_sample_size) * self.latents.factor

    @property
    def multiple(self) -> int:
        return 2 * self.latents.factor

    @property
    def _sides(self) -> tuple[int, int]:
        """Height and width in tokens."""
        height, width = (side // self.multiple for side in self.size)
        return height, width

    @property
    def event_shape(self) -> tuple[int, ...]:
        height, width = self._sides
        return (height * width, self.network.config.in_channels)

    @property
    def takes_guidance(self) -> bool:
        """Whether the network is told a guidance weight."""
        return bool(self.network.config.guidance_embeds)

    @property
    def token_count(self) -> int:
        return self.event_shape[0]

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Given:
        """Bind a condition; the weight goes to dev's network unless ``true_guidance`` is set.

        Raises:
            ConfigError: for a weight other than 1 where the network was distilled to run without.
        """
        if self.true_guidance or guidance == 1.0:
            return Given(self, condition, guidance)
        if not self.takes_guidance:
            raise ConfigError(
                f"guidance {guidance!r} was given, and this network was distilled to run without; leave "
                "guidance "
                "out, or load with true_guidance=True for two rows per look"
            )
        return Given(replace(self, embedded_guidance=told(guidance)), condition, 1.0)

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        length = self.max_sequence_length or (512 if self.takes_guidance else 256)
        embeds, pooled, _ = self.pipe.encode_prompt(
            request.prompt or "", None, device=self.device, max_sequence_length=length
        )
        return {"prompt": embeds[0], "pooled": pooled[0], **self._embed_inputs(request)}

    @property
    def inputs(self) -> tuple[str, ...]:
        return inputs_of(self.pipe, getattr(self.network, "encoder_hid_proj", None) is not None)

    def _embed_inputs(self, request: Request) -> dict[str, Tensor]:
        """What IP-Adapters and a ControlNet are given."""
        found: dict[str, Tensor] = {}
        height, width = self.size
        if (image := request.inputs.get("ip_adapter_image")) is not None:
            if request.is_opposite:  # the pipeline leads away from a black image
                black = np.zeros((width, height, 3), dtype=np.uint8)
                image = [black] * self.network.encoder_hid_proj.num_ip_adapters
            each = self.pipe.prepare_ip_adapter_image_embeds(image, None, self.device, 1)
            found |= {f"image_{i}": embeds[0] for i, embeds in enumerate(each)}
        if (image := request.inputs.get("control_image")) is not None:
            pixels = self.pipe.prepare_image(
                image=image,
                width=width,
                height=height,
                batch_size=1,
                num_images_per_prompt=1,
                device=self.device,
                dtype=self.pipe.vae.dtype,
            )
            if self._reads_pixels:
                found["control"] = pixels[0]
            else:  # the mode: a condition is the same at every call
                found["control"] = self.packed(self.latents.encoded(pixels))[0]
        return found

    @property
    def _reads_pixels(self) -> bool:
        """Whether the ControlNet has layers of its own for pixels, and repeats its blocks."""
        return self.pipe.controlnet.input_hint_block is not None

    def _control(self, given: Conditions, told: dict[str, Any]) -> dict[str, Any]:
        """What a ControlNet adds to the blocks."""
        if "control" not in given:
            return {}
        net, x = self.pipe.controlnet, told["hidden_states"]
        mode = (
            None if self.control_mode is None else torch.full((len(x), 1), self.control_mode, device=x.device)
        )
        double, single = net(
            **{**told, "guidance": self._weight(net, x)},
            controlnet_cond=given["control"].to(x.dtype),
            controlnet_mode=mode,
            conditioning_scale=self.control_scale,
            return_dict=False,
        )
        return {
            "controlnet_block_samples": double,
            "controlnet_single_block_samples": single,
            "controlnet_blocks_repeat": self._reads_pixels,
        }

    def _weight(self, network: Any, x: Tensor) -> Tensor | None:
        """The guidance weight that a network is told; others take none."""
        if not network.config.guidance_embeds:
            return None
        return torch.full((len(x),), self.embedded_guidance, device=x.device, dtype=torch.float32)

    def set_timesteps(self, scheduler: Any, steps: int) -> None:
        sigmas = np.linspace(1.0, 1 / steps, steps)
        mu = shift_exponent(scheduler, self.token_count)
        if scheduler.config.get("use_flow_sigmas", False):
            scheduler.set_timesteps(steps, mu=mu)
        else:
            scheduler.set_timesteps(sigmas=sigmas, mu=mu)

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        prompt = given["prompt"]
        told = {
            "hidden_states": x,
            "timestep": label / 1000,
            "pooled_projections": given["pooled"],
            "encoder_hidden_states": prompt,
            "txt_ids": torch.zeros(prompt.shape[1], 3, device=x.device, dtype=x.dtype),
            "img_ids": self._places(x),
        }
        images = [given[name] for name in given.table if name.startswith("image_")]
        return self.network(
            **told,
            **self._control(given, told),
            guidance=self._weight(self.network, x),
            joint_attention_kwargs={"ip_adapter_image_embeds": images} if images else None,
            return_dict=False,
        )[0]

    def _places(self, x: Tensor) -> Tensor:
        """Where every token of a picture lies; made once, since the pipeline makes them on the host."""
        key = (x.device, x.dtype)
        if key not in self._made:
            self._made[key] = self.pipe._prepare_latent_image_ids(len(x), *self._sides, *key)
        return self._made[key]

    @cached_property
    def _made(self) -> dict[Any, Tensor]:
        return {}

    def unpacked(self, x: Tensor) -> Tensor:
        return self.pipe._unpack_latents(x, *self.size, self.latents.factor)

    def packed(self, z: Tensor) -> Tensor:
        return self.pipe._pack_latents(z, *z.shape)
