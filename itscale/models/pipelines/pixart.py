"""PixArt-alpha and PixArt-Sigma."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from itscale.models.conditions import Conditions
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.requests import Request

SIZES = ("resolution", "aspect_ratio")


@dataclass(frozen=True, eq=False, kw_only=True)
class PixArt(PipelineModel):
    """A diffusion transformer with cross-attention to T5 embeddings.

    It also predicts variances, which samplers of the noise alone leave.

    Attributes:
        max_sequence_length: tokens of the prompt; None is 300, for alpha 120.

    Reference:
        Chen et al. (2023), "PixArt-alpha", arXiv:2310.00426; Chen et al. (2024), "PixArt-Sigma",
        arXiv:2403.04692.
    """

    max_sequence_length: int | None = None

    family: ClassVar[str] = "pixart"
    classes: ClassVar[tuple[str, ...]] = ("PixArtSigmaPipeline", "PixArtAlphaPipeline")

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

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        is_alpha = "Alpha" in type(self.pipe).__name__
        embeds, mask, _, _ = self.pipe.encode_prompt(
            request.prompt or "",
            False,
            device=self.device,
            clean_caption=False,
            max_sequence_length=self.max_sequence_length or (120 if is_alpha else 300),
        )
        return {"prompt": embeds[0], "mask": mask[0], **self._sizes(embeds.dtype, embeds.device)}

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        raw = self.network(
            x,
            encoder_hidden_states=given["prompt"],
            encoder_attention_mask=given["mask"],
            timestep=label,
            added_cond_kwargs={name: given[name] for name in SIZES if name in given},
            return_dict=False,
        )[0]
        return raw[:, : x.shape[1]]  # what follows are variances

    def _sizes(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """The sizes that alpha at 1024 pixels is told."""
        if self.network.config.sample_size != 128 or not self.network.use_additional_conditions:
            return {}
        height, width = self.size
        told = {"resolution": [height, width], "aspect_ratio": [height / width]}
        return {name: torch.tensor(told[name], dtype=dtype, device=device) for name in SIZES}
