"""Stable Diffusion XL, and networks of its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from itscale.models.conditions import Conditions
from itscale.models.pipelines.requests import Request
from itscale.models.pipelines.stable_diffusion import StableDiffusion


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusionXL(StableDiffusion):
    """Two text encoders, one of them pooled, and the sizes of the image as inputs.

    Without a negative prompt some releases are led away from zeros, as their configuration says
    (``force_zeros_for_empty_prompt``). The autoencoder of the release overflows in float16 and is then used
    in float32.

    Attributes:
        crop: upper left corner that the image is said to be cropped at.
        original: height and width that it is said to have been; None is its own.

    Reference:
        Podell et al. (2023), "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis",
        arXiv:2307.01952.
    """

    crop: tuple[int, int] = (0, 0)
    original: tuple[int, int] | None = None

    family: ClassVar[str] = "stable-diffusion-xl"
    classes: ClassVar[tuple[str, ...]] = (
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLControlNetPipeline",
    )

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        prompt = request.prompt
        if prompt is None:
            # the pipeline knows whether no prompt is zeros or an empty text
            _, embeds, _, pooled = self.pipe.encode_prompt("", None, self.device, 1, True, None)
        else:
            embeds, _, pooled, _ = self.pipe.encode_prompt(
                prompt, None, self.device, 1, False, clip_skip=self.clip_skip
            )
        size = [*(self.original or self.size), *self.crop, *self.size]
        sizes = torch.tensor(size, dtype=pooled.dtype, device=pooled.device)
        return {"prompt": embeds[0], "pooled": pooled[0], "sizes": sizes, **self.embed_inputs(request)}

    def more(self, given: Conditions) -> dict[str, Any] | None:
        told = {"text_embeds": given["pooled"], "time_ids": given["sizes"]}
        return {**told, **(super().more(given) or {})}
