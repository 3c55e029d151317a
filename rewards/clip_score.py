"""CLIP score: how well images fit their prompt, as the cosine of two embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError
from itscale.vision.clip_folder import FILES, ClipFolder
from itscale.vision.image_text import Source
from itscale.vision.open_clip_source import CONFIG, LOCAL, OpenClip
from itscale.vision.places import Weights, base_folder

from .declare import built_in, check_choice
from .learned import Preprocessed, Prompted

SCALES = (1, 100, 2.5)
COSINE = {"range": (-1.0, 1.0), "typical": (0.15, 0.4), "scale_hint": 0.04}


@built_in("clip-score")
@dataclass(frozen=True)
class ClipScore(Preprocessed, Prompted):
    """Cosine between the embeddings of an image and its prompt.

    Costs one pass of the image encoder a sample; each prompt is encoded once.

    Args:
        model: ``"local-dir:FOLDER"`` of open_clip (architecture, preprocessing and tokenizer come from the
            folder), a folder with a ``CLIPModel`` of transformers, or the name of an architecture of
            open_clip beside ``weights``. By default the folder ``clip-score`` among the weights.
        weights: a file, or a tag of open_clip's table such as ``"laion2b_s34b_b79k"``.
        quick_gelu: the activation of weights in a file; must be stated where an architecture exists with
            both, since the wrong one loads and scores wrongly.
        scale: 1 is the plain cosine, 100 that in percent, 2.5 the published ``2.5 max(cosine, 0)``.

    Reference:
        Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision",
        arXiv:2103.00020. Hessel et al. (2021), "CLIPScore", arXiv:2104.08718 (scale 2.5).
    """

    model: str | None = None
    weights: str | None = None
    quick_gelu: bool | None = None
    scale: float = 1
    library: ClassVar[str] = "open_clip"

    def __post_init__(self) -> None:
        check_choice(self.name, "scale", self.scale, SCALES)
        super().__post_init__()

    def __call__(
        self, images: Float[Tensor, "m 3 h w"], prompts: Sequence[str | None] | None = None
    ) -> Float[Tensor, " m"]:
        network = self._network(images)
        texts = self._texts(prompts, len(images))
        cosine = network.cosine(self._pixels(images, network.preprocessing), texts)
        return (cosine.clamp(min=0) if self.scale == 2.5 else cosine) * self.scale

    def _find(self) -> Source:
        model = self.model
        if model is None:
            if self.weights is not None:
                raise ConfigError(f"reward {self.name!r}: weights={self.weights!r} need model=ARCHITECTURE")
            folder = base_folder() / self.name
            model = str(folder) if (folder / "config.json").is_file() else f"{LOCAL}{folder}"
        path = Path(model).expanduser()
        if path.is_dir() and (path / CONFIG).is_file():
            model = f"{LOCAL}{path}"
        elif path.is_dir():
            needs = Weights(self.name, FILES, "by checkpoint")
            return ClipFolder(str(needs.folder(path)), self.dtype)
        return OpenClip(model, self.weights, self.quick_gelu, self.dtype, self.allow_download).check()

    def _changes(self) -> dict[str, Any]:
        changes = super()._changes()
        if self.scale == 1:
            return changes
        low, high = COSINE["range"]
        return {
            **changes,
            "range": (0.0 if self.scale == 2.5 else low * self.scale, high * self.scale),
            "typical": tuple(end * self.scale for end in COSINE["typical"]),
            "scale_hint": COSINE["scale_hint"] * self.scale,
        }
