"""The LAION aesthetic predictor: how much people would like the look of an image, whatever it shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from itscale.vision.clip_folder import ClipFolder
from itscale.vision.image_text import ImageText, Source, resident
from itscale.vision.linear_head import linear_head
from itscale.vision.open_clip_source import CONFIG, LOCAL, OpenClip
from itscale.vision.states import frozen, read_state

from .declare import built_in
from .learned import Preprocessed
from .table import BUILT_IN


@built_in("aesthetic")
@dataclass(frozen=True)
class Aesthetic(Preprocessed):
    """A linear network on the embedding of a CLIP ViT-L/14, trained on ratings from 1 to 10.

    Asks for no prompt, so that it is best combined with a reward that does. Costs one pass of the image
    encoder a sample.

    Args:
        weights: the file ``sac+logos+ava1-l14-linearMSE.pth``, or the folder that holds it.
        clip: folder of OpenAI's CLIP ViT-L/14 as transformers or open_clip saves it; by default the folder
            ``clip-vit-large-patch14`` among the weights.

    Reference:
        Schuhmann et al. (2022), "LAION-5B", arXiv:2210.08402, section on aesthetic subsets.
    """

    weights: str | None = None
    clip: str | None = None

    def __call__(self, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, " m"]:
        encoder, head = self._network(images)
        return head(encoder.embed_images(self._pixels(images, encoder.preprocessing)))[:, 0]

    def _find(self) -> Predictor:
        for_head, for_encoder = BUILT_IN[self.name].weights
        file = str(for_head.file(self.weights, self.allow_download))
        if self.clip is not None and (Path(self.clip.removeprefix(LOCAL)).expanduser() / CONFIG).is_file():
            return Predictor(file, OpenClip(LOCAL + self.clip.removeprefix(LOCAL), dtype=self.dtype))
        return Predictor(
            file, ClipFolder(str(for_encoder.folder(self.clip, self.allow_download)), self.dtype)
        )


@dataclass(frozen=True)
class Predictor:
    """The published file of the linear layers, and the encoder below them.

    Args:
        file: a state dictionary, names starting with ``layers.``.
        encoder: a CLIP model.
    """

    file: str
    encoder: Source

    def load(self, device: torch.device) -> tuple[ImageText, nn.Module]:
        """Read the weights; other rewards may use the same encoder."""
        state = {k.removeprefix("layers."): v for k, v in read_state(Path(self.file)).items()}
        head = frozen(linear_head(state, repr(self.file)), device)
        return resident(self.encoder, device), head
