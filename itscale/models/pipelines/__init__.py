"""Diffusers pipelines as models: one file a family, over the pipeline object's own modules."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from itscale.errors import ConfigError, did_you_mean
from itscale.models.pipelines.base import PipelineModel, make

FAMILIES: dict[str, tuple[str, str]] = {
    "stable-diffusion": ("stable_diffusion", "StableDiffusion"),
    "stable-diffusion-xl": ("stable_diffusion_xl", "StableDiffusionXL"),
    "stable-diffusion-3": ("stable_diffusion_3", "StableDiffusion3"),
    "flux": ("flux", "Flux"),
    "pixart": ("pixart", "PixArt"),
    "dit": ("dit", "DiT"),
    "unconditional": ("unconditional", "Unconditional"),
    "latent-consistency": ("consistency", "LatentConsistency"),
    "latent-consistency-xl": ("consistency", "LatentConsistencyXL"),
    "consistency": ("consistency", "Consistency"),
    "wan": ("wan", "Wan"),
    "ltx": ("ltx", "LTX"),
    "modular": ("modular", "Modular"),
}
"""Name -> file and class."""

__all__ = ["FAMILIES", "PipelineModel", "adapt", "families"]


def families() -> dict[str, type[PipelineModel]]:
    """The adapter of every family, by name."""
    return {
        name: getattr(import_module(f"{__name__}.{file}"), adapter)
        for name, (file, adapter) in FAMILIES.items()
    }


def _sampled_as(family: type[PipelineModel], pipe: Any) -> type[PipelineModel]:
    """The family, or what distilled weights make of it: their scheduler says so."""
    if type(pipe.scheduler).__name__ != "LCMScheduler":
        return family
    distilled = {"stable-diffusion": "latent-consistency", "stable-diffusion-xl": "latent-consistency-xl"}
    name = distilled.get(family.family)
    return family if name is None else families()[name]


def adapt(pipe: Any, **options: Any) -> PipelineModel:
    """Make a model of a pipeline object.

    Args:
        pipe: a diffusers pipeline, with whatever was loaded into it.
        options: fields of the family's adapter, such as ``height``, ``width``, ``negative_prompt``.

    Raises:
        ConfigError: for a class that no family adapts, or an option that is unknown or cannot work.
    """
    known: dict[str, type[PipelineModel]] = {}
    for family in families().values():
        known |= dict.fromkeys(family.classes, family)
    for kind in type(pipe).__mro__:  # a subclass of a pipeline is read as that pipeline
        if kind.__name__ in known:
            return make(_sampled_as(known[kind.__name__], pipe), pipe, options)
    name = type(pipe).__name__
    raise ConfigError(
        f"no adapter for the pipeline class {name}.{did_you_mean(name, known)} Adapted: "
        f"{', '.join(sorted(known))}. Write one of about 60 lines after "
        "itscale/models/pipelines/stable_diffusion.py and pass it itself to itscale.sample; "
        "docs/pipelines.md shows how"
    )
