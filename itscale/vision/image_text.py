"""Images and texts in one space: what CLIP-like scorers are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ItscaleError, RewardError
from itscale.vision.preprocessing import Preprocessing

REMEMBERED = 1024
"""Texts whose embedding is kept: a run asks for few prompts, and for each of them thousands of times."""


class ImageText:
    """Two frozen encoders into one space.

    Args:
        images: preprocessed pixels ``[m, 3, h, w]`` to embeddings ``[m, d]``.
        texts: list of ``m`` strings to embeddings ``[m, d]``, on the device of the encoders.
        preprocessing: what the image encoder expects.
        logit_scale: the factor on the cosine that training ended with.
        dtype: in which the encoders compute.
    """

    def __init__(
        self,
        images: Callable[[Tensor], Tensor],
        texts: Callable[[list[str]], Tensor],
        preprocessing: Preprocessing,
        *,
        logit_scale: float,
        dtype: torch.dtype,
    ) -> None:
        self.preprocessing = preprocessing
        self.logit_scale = logit_scale
        self._images, self._texts, self._dtype = images, texts, dtype
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def embed_images(self, pixels: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m d"]:
        """Unit vectors in float32 of preprocessed pixels, differentiable."""
        return F.normalize(self._images(pixels.to(self._dtype)).float(), dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "m d"]:
        """Unit vectors in float32; each different text is encoded once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        found = {text: self._kept[text] for text in texts if text in self._kept}
        if new:
            found.update(zip(new, F.normalize(self._texts(new).float(), dim=-1), strict=True))
        for text in dict.fromkeys(texts):
            self._kept[text] = found[text]
            self._kept.move_to_end(text)
        while len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)
        return torch.stack([found[text] for text in texts])

    def cosine(self, pixels: Float[Tensor, "m 3 h w"], texts: Sequence[str]) -> Float[Tensor, " m"]:
        """Cosine between each image and its own text."""
        return (self.embed_images(pixels) * self.embed_texts(texts)).sum(dim=1)  # over the embedding


class Source(Protocol):
    """Where a network comes from: a small, hashable description that can be sent to another process."""

    def load(self, device: torch.device) -> Any: ...


@lru_cache(maxsize=16)
def resident(source: Any, device: torch.device) -> Any:
    """The network of a source on a device, loaded once per process and shared by the rewards that use it.

    Raises:
        RewardError: if it cannot be loaded, so that nobody tries again sample by sample.
    """
    try:
        return source.load(device)
    except (ItscaleError, ImportError, MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # libraries raise many kinds for files that are not what they expect
        raise RewardError(f"cannot load {source}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Loaded:
    """A source for a network that is there already, for tests and for networks of one's own."""

    network: Any

    def load(self, device: torch.device) -> Any:
        """The network itself, wherever it is."""
        return self.network
