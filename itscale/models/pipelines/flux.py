"""FLUX.1 dev and schnell."""

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
from itscale.models.pipelines.requests import Request
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

    Reference:
        Black Forest Labs (2024), FLUX.1; the path is that of Esser et al. (2024), arXiv:2403.03206.
    """

    embedded_guidance: float = 3.5
    true_guidance: bool = False
    max_sequence_length: int | None = None

    family: ClassVar[str] = "flux"
    classes: ClassVar[tuple[str, ...]] = ("FluxPipeline", "FluxImg2ImgPipeline")

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
        return {"prompt": embeds[0], "pooled": pooled[0]}

    def set_timesteps(self, scheduler: Any, steps: int) -> None:
        sigmas = np.linspace(1.0, 1 / steps, steps)
        mu = shift_exponent(scheduler, self.token_count)
        if scheduler.config.get("use_flow_sigmas", False):
            scheduler.set_timesteps(steps, mu=mu)
        else:
            scheduler.set_timesteps(sigmas=sigmas, mu=mu)

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        guidance = None
        if self.takes_guidance:
            guidance = torch.full((len(x),), self.embedded_guidance, device=x.device, dtype=torch.float32)
        prompt = given["prompt"]
        return self.network(
            hidden_states=x,
            timestep=label / 1000,
            guidance=guidance,
            pooled_projections=given["pooled"],
            encoder_hidden_states=prompt,
            txt_ids=torch.zeros(prompt.shape[1], 3, device=x.device, dtype=x.dtype),
            img_ids=self._places(x),
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
