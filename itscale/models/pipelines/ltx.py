"""LTX-Video: videos from text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from itscale.models.conditions import Conditions
from itscale.models.pipelines.decoding import decoded
from itscale.models.pipelines.requests import Request
from itscale.models.pipelines.shifts import shift_exponent
from itscale.models.pipelines.video import VideoPipeline


@dataclass(frozen=True, eq=False, kw_only=True)
class LTX(VideoPipeline):
    """A flow on packed latents: states are (tokens, channels).

    Attributes:
        frame_rate: frames a second, which the positions of tokens are measured in.
        max_sequence_length: tokens of the prompt.
        decode_time: for autoencoders that denoise as they decode, the time they are told. No noise is added
            before, so that equal states decode alike.

    Reference:
        HaCohen et al. (2024), "LTX-Video: Realtime Video Latent Diffusion", arXiv:2501.00103.
    """

    frames: int = 161
    frame_rate: int = 25
    max_sequence_length: int = 128
    decode_time: float = 0.05

    family: ClassVar[str] = "ltx"
    classes: ClassVar[tuple[str, ...]] = ("LTXPipeline",)

    @property
    def network(self) -> Any:
        return self.pipe.transformer

    @property
    def native_size(self) -> int:
        return 512

    @property
    def _factor(self) -> int:
        return int(self.pipe.vae_spatial_compression_ratio)

    @property
    def multiple(self) -> int:
        return self._factor * int(self.pipe.transformer_spatial_patch_size)

    @property
    def frame_step(self) -> int:
        return int(self.pipe.vae_temporal_compression_ratio)

    @property
    def _volume(self) -> tuple[int, int, int]:
        """Frames, height and width of the latents."""
        height, width = (side // self._factor for side in self.size)
        return self.latent_frames, height, width

    @property
    def _patches(self) -> tuple[int, int]:
        return int(self.pipe.transformer_spatial_patch_size), int(self.pipe.transformer_temporal_patch_size)

    @property
    def event_shape(self) -> tuple[int, ...]:
        frames, height, width = self._volume
        side, depth = self._patches
        return ((frames // depth) * (height // side) * (width // side), self.network.config.in_channels)

    @property
    def token_count(self) -> int:
        frames, height, width = self._volume
        return frames * height * width

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        embeds, mask, _, _ = self.pipe.encode_prompt(
            prompt=request.prompt or "",
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
            device=self.device,
        )
        return {"prompt": embeds[0], "mask": mask[0]}

    def set_timesteps(self, scheduler: Any, steps: int) -> None:
        mu = shift_exponent(scheduler, self.token_count)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        frames, height, width = self._volume
        scale = (self.frame_step / self.frame_rate, self._factor, self._factor)
        return self.network(
            hidden_states=x,
            encoder_hidden_states=given["prompt"],
            timestep=label,
            encoder_attention_mask=given["mask"],
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=scale,
            return_dict=False,
        )[0]

    def unpacked(self, x: Tensor) -> Tensor:
        return self.pipe._unpack_latents(x, *self._volume, *self._patches)

    def packed(self, z: Tensor) -> Tensor:
        return self.pipe._pack_latents(z, *self._patches)

    def _pixels(self, x: Tensor, with_tiny: bool) -> Tensor:
        if not getattr(self.pipe.vae.config, "timestep_conditioning", False):
            return super()._pixels(x, with_tiny)
        time = torch.full((len(x),), self.decode_time, device=x.device, dtype=self.pipe.vae.dtype)
        return ((decoded(self.latents, self.unpacked(x), time) + 1) / 2).clamp(0, 1).transpose(1, 2)
