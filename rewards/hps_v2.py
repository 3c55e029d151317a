"""Human Preference Score v2: a CLIP trained on which of two images people prefer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.vision.image_text import ImageText
from itscale.vision.open_clip_source import joint, library
from itscale.vision.preprocessing import Preprocessing
from itscale.vision.states import fill, read_state

from .declare import built_in, check_choice
from .learned import Preprocessed, Prompted
from .table import BUILT_IN

VERSIONS = ("2.1", "2.0")
ARCHITECTURE = "ViT-H-14"


@built_in("hps-v2")
@dataclass(frozen=True)
class HPSv2(Preprocessed, Prompted):
    """Cosine between image and prompt of a CLIP ViT-H/14 trained on preferences, about 0.15 to 0.35.

    The image keeps its shape: its longer side becomes 224 pixels and the rest is filled with black, where
    CLIP would cut the ends off. Costs one pass of the image encoder a sample.

    Args:
        version: ``"2.1"`` or ``"2.0"``.
        weights: the file ``HPS_v2.1_compressed.pt`` (or that of version 2.0), or the folder that holds it.

    Reference:
        Wu et al. (2023), "Human Preference Score v2", arXiv:2306.09341.
    """

    version: str = "2.1"
    weights: str | None = None
    library: ClassVar[str] = "open_clip"

    def __post_init__(self) -> None:
        check_choice(self.name, "version", self.version, VERSIONS)
        super().__post_init__()

    def __call__(
        self, images: Float[Tensor, "m 3 h w"], prompts: Sequence[str | None] | None = None
    ) -> Float[Tensor, " m"]:
        network = self._network(images)
        texts = self._texts(prompts, len(images))
        return network.cosine(self._pixels(images, network.preprocessing), texts)

    def _find(self) -> Checkpoint:
        needs = BUILT_IN[self.name].weights[VERSIONS.index(self.version)]
        return Checkpoint(str(needs.file(self.weights, self.allow_download)), self.dtype)

    def _changes(self) -> dict[str, Any]:
        return super()._changes() | {"version": self.version}


@dataclass(frozen=True)
class Checkpoint:
    """A state dictionary of the architecture ``ViT-H-14`` of open_clip.

    Args:
        file: as published, tensors under ``state_dict``.
        dtype: in which it computes.
        architecture: another one, for checkpoints trained alike.
    """

    file: str
    dtype: str = "float32"
    architecture: str = ARCHITECTURE

    def load(self, device: torch.device) -> ImageText:
        """Read the weights; the preprocessing is HPS's own."""
        open_clip = library()
        model = open_clip.CLIP(**open_clip.get_model_config(self.architecture))
        fill(model, read_state(Path(self.file)), repr(self.file))
        preprocessing = Preprocessing(model.visual.image_size, fit="pad", resizes="floats")
        return joint(model, open_clip.get_tokenizer(self.architecture), preprocessing, device, self.dtype)
