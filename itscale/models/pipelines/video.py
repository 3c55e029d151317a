"""What pipelines of videos have in common."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.pipelines.base import PipelineModel
from itscale.types import State


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoPipeline(PipelineModel, ABC):
    """Frames share a prompt and a latent; samples are (rows, frames, 3, height, width) in [0, 1].

    Attributes:
        frames: how many frames; one more than a multiple of the autoencoder's compression in time.
        decode_rows: videos decoded at once; the autoencoder takes the most memory of all.
    """

    frames: int = 81
    decode_rows: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        step = self.frame_step
        if isinstance(self.frames, bool) or not isinstance(self.frames, int) or (self.frames - 1) % step:
            near = 1 + step * max(1, round((self.frames - 1) / step)) if isinstance(self.frames, int) else 1
            raise ConfigError(
                f"frames is {self.frames!r}: this pipeline makes 1 + {step} k of them, such as {near}"
            )
        if self.frames < 1:
            raise ConfigError(f"frames is {self.frames!r}; make at least 1")

    @property
    def modality(self) -> str:
        return "video"

    @property
    def frame_step(self) -> int:
        """Frames per latent frame."""
        return 4

    @property
    def latent_frames(self) -> int:
        return (self.frames - 1) // self.frame_step + 1

    def _pixels(self, x: Tensor, with_tiny: bool) -> Tensor:
        return super()._pixels(x, with_tiny).transpose(1, 2)  # frames before channels

    def preview(self, x: State) -> Tensor:
        return super().preview(x).transpose(1, 2)

    def encode_image(self, images: Tensor, seed: int | None = None) -> State:
        """States of videos (rows, frames, 3, height, width) in [0, 1]."""
        if images.ndim != 5 or images.shape[1] != self.frames or tuple(images.shape[-2:]) != self.size:
            raise ConfigError(
                f"videos are {tuple(images.shape)}; give (rows, {self.frames}, 3, {self.size[0]}, "
                f"{self.size[1]})"
            )
        with torch.no_grad():
            z = self.latents.encoded(images.to(self.device).transpose(1, 2) * 2 - 1)
        return self.packed(z).float()
