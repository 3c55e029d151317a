"""PickScore: which image people would pick for a prompt, by a fine-tuned CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from itscale.vision.clip_folder import ClipFolder

from .declare import built_in, check_choice
from .learned import Preprocessed, Prompted
from .table import BUILT_IN


@built_in("pickscore")
@dataclass(frozen=True)
class PickScore(Preprocessed, Prompted):
    """``exp(logit_scale)`` times the cosine of a CLIP ViT-H/14 trained on choices of people, about 17 to 24.

    Costs one pass of the image encoder a sample; each prompt is encoded once.

    Args:
        weights: folder with model, processor and tokenizer as transformers saves them.
        normalise: ``None`` is the published score, ``"26"`` divides it by 26, as code for training with
            rewards does.

    Reference:
        Kirstain et al. (2023), "Pick-a-Pic", arXiv:2305.01569.
    """

    weights: str | None = None
    normalise: str | None = None

    def __post_init__(self) -> None:
        check_choice(self.name, "normalise", self.normalise, (None, "26"))
        super().__post_init__()

    def __call__(
        self, images: Float[Tensor, "m 3 h w"], prompts: Sequence[str | None] | None = None
    ) -> Float[Tensor, " m"]:
        network = self._network(images)
        texts = self._texts(prompts, len(images))
        score = network.logit_scale * network.cosine(self._pixels(images, network.preprocessing), texts)
        return score if self.normalise is None else score / 26

    def _find(self) -> ClipFolder:
        (needs,) = BUILT_IN[self.name].weights
        return ClipFolder(str(needs.folder(self.weights, self.allow_download)), self.dtype)

    def _changes(self) -> dict[str, Any]:
        changes = super()._changes()
        if self.normalise is not None:
            changes |= {"typical": (0.65, 0.92), "scale_hint": 0.05}
        return changes
