"""Latents to pixels and back, by the pipeline's autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.types import sent


@dataclass(frozen=True, eq=False)
class Latents:
    """An autoencoder and the affine map between its latents and a model's states.

    Attributes:
        vae: the autoencoder; None where states are pixels.
        factor: pixels along a side of a latent.
        scale: states are ``scale (z - shift)``, or with ``mean`` and ``std`` ``scale (z - mean) / std``.
        mean, std: per channel.
    """

    vae: Any
    factor: int = 1
    scale: float = 1.0
    shift: float = 0.0
    mean: Tensor | None = None
    std: Tensor | None = None

    @classmethod
    def of(cls, pipe: Any) -> Latents:
        """Read them off a pipeline."""
        vae = getattr(pipe, "vae", None)
        if vae is None:
            return cls(None)
        config = vae.config
        names = ("vae_scale_factor", "vae_scale_factor_spatial", "vae_spatial_compression_ratio")
        known = [int(factor) for name in names if (factor := getattr(pipe, name, None))]
        factor = known[0] if known else 2 ** (len(config.block_out_channels) - 1)
        mean, std = (_listed(vae, name) for name in ("latents_mean", "latents_std"))
        both = mean is not None and std is not None
        return cls(
            vae,
            factor,
            float(config.get("scaling_factor") or 1.0),
            0.0 if both else float(config.get("shift_factor") or 0.0),
            mean if both else None,
            std if both else None,
        )

    @classmethod
    def of_tiny(cls, tiny: Any, dtype: torch.dtype, device: torch.device) -> Latents:
        """A small autoencoder for the same latents, or the folder of one."""
        if isinstance(tiny, str):
            kind = import_module("diffusers").AutoencoderTiny

            try:
                tiny = kind.from_pretrained(tiny, torch_dtype=dtype, local_files_only=True)
            except (OSError, ValueError) as error:
                raise ConfigError(f"tiny={tiny!r} is no folder of an AutoencoderTiny: {error}") from error
        tiny = tiny.to(device).eval().requires_grad_(False)
        return cls(
            tiny, 2 ** (len(tiny.config.decoder_block_out_channels) - 1), float(tiny.config.scaling_factor)
        )

    def from_states(self, x: Tensor) -> Tensor:
        """Latents of the autoencoder, from states (rows, channels, ...)."""
        if self.mean is None or self.std is None:
            return x / self.scale + self.shift
        mean, std = (
            sent(v.to(x.dtype), x.device).reshape(1, -1, *(1,) * (x.ndim - 2)) for v in (self.mean, self.std)
        )
        return x * std / self.scale + mean

    def to_states(self, z: Tensor) -> Tensor:
        """States from latents of the autoencoder."""
        if self.mean is None or self.std is None:
            return (z - self.shift) * self.scale
        mean, std = (
            sent(v.to(z.dtype), z.device).reshape(1, -1, *(1,) * (z.ndim - 2)) for v in (self.mean, self.std)
        )
        return (z - mean) * self.scale / std

    def encoded(self, images: Tensor) -> Tensor:
        """States of images in [-1, 1]."""
        if self.vae is None:
            return images
        vae = _wide_enough(self.vae)
        found = vae.encode(images.to(vae.dtype))
        z = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return self.to_states(z)


def _listed(vae: Any, name: str) -> Tensor | None:
    """Numbers per channel, from an autoencoder's configuration or its buffers."""
    found = vae.config.get(name)
    found = dict(vae.named_buffers(recurse=False)).get(name) if found is None else found
    return None if found is None else torch.as_tensor(found).detach().float().cpu()


def decoded(latents: Latents, x: Tensor, *more: Any) -> Tensor:
    """Pixels, about [-1, 1], in float32; ``more`` is what else the autoencoder's ``decode`` takes."""
    if latents.vae is None:
        return x.float()
    vae = _wide_enough(latents.vae)
    return vae.decode(latents.from_states(x).to(vae.dtype), *more, return_dict=False)[0].float()


def _wide_enough(vae: Any) -> Any:
    """An autoencoder that overflows in half precision (SDXL's says so) is brought to float32, once."""
    if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
        vae.to(dtype=torch.float32)
    return vae
