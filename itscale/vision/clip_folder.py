"""CLIP models of the transformers library, from a folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError, missing_extra
from itscale.vision.image_text import ImageText
from itscale.vision.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from itscale.vision.states import DTYPES, frozen

FILES = ("config.json", "model.safetensors|model.safetensors.index.json|pytorch_model.bin",
         "preprocessor_config.json|processor_config.json", "tokenizer.json|vocab.json")  # fmt: skip
FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for filters, as preprocessor files write them."""


@dataclass(frozen=True)
class ClipFolder:
    """A ``CLIPModel`` with processor and tokenizer, as ``save_pretrained`` writes them.

    Args:
        folder: holds ``FILES``.
        dtype: in which it computes.
        tokens: texts are padded and cut to this length.
    """

    folder: str
    dtype: str = "float32"
    tokens: int = 77

    def load(self, device: torch.device) -> ImageText:
        """Read the weights."""
        transformers = library()
        model = pretrained(transformers.CLIPModel, self.folder, device, self.dtype)
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, local_files_only=True)

        def texts(texts: list[str]) -> Tensor:
            encoded = tokenizer(
                texts, padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt"
            )
            return features(model.get_text_features(**encoded.to(device)))

        return ImageText(
            lambda pixels: features(model.get_image_features(pixel_values=pixels)),
            texts,
            read_preprocessing(Path(self.folder)),
            logit_scale=float(model.logit_scale.exp()),
            dtype=DTYPES[self.dtype],
        )


def library() -> Any:
    """The transformers module, imported when used."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise missing_extra("transformers", "images", "this reward") from error
    return transformers


def pretrained(kind: Any, folder: str, device: torch.device, dtype: str) -> Any:
    """A frozen model of transformers from a folder, never held in a larger dtype than it computes in."""
    version = tuple(int(part) for part in library().__version__.split(".")[:2])
    name = "dtype" if version >= (4, 56) else "torch_dtype"
    options = {name: DTYPES[dtype], "local_files_only": True}
    with _without_progress():
        return frozen(kind.from_pretrained(folder, **options), device, dtype)


@contextlib.contextmanager
def _without_progress() -> Iterator[None]:
    """Keep the library's bars out of those of a run."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def features(out: Any) -> Tensor:
    """The embedding, which transformers 4 returns as it is and transformers 5 within an object."""
    return out if isinstance(out, Tensor) else out.pooler_output


def read_preprocessing(folder: Path) -> Preprocessing:
    """The preprocessing that a folder's ``preprocessor_config.json`` states.

    Raises:
        ConfigError: for steps other than resizing, central cropping and normalising.
    """
    path = next(
        p for p in (folder / "preprocessor_config.json", folder / "processor_config.json") if p.is_file()
    )
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts = facts.get("image_processor", facts)
    steps = ("do_resize", "do_rescale", "do_normalize")
    if not all(facts.get(step, True) for step in steps) or facts.get("do_pad"):
        raise ConfigError(
            f"{str(path)!r} leaves out a step or pads; expected resize, crop, rescale, normalise"
        )
    size = facts.get("size", 224)
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = facts.get("crop_size", 224)
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    common: dict[str, Any] = {
        "mean": tuple(facts.get("image_mean") or CLIP_MEAN),
        "std": tuple(facts.get("image_std") or CLIP_STD),
        "interpolation": FILTERS[facts.get("resample", 3)],
        "offset": "floor",
    }
    if "shortest_edge" in size and facts.get("do_center_crop", True):
        return Preprocessing((crop["height"], crop["width"]), shorter=size["shortest_edge"], **common)
    if "height" in size and (not facts.get("do_center_crop", True) or crop == size):
        return Preprocessing((size["height"], size["width"]), fit="stretch", **common)
    raise ConfigError(f"{str(path)!r} resizes to {size} and crops to {crop}, which is not known here")
