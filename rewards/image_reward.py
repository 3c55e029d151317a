"""ImageReward: how well an image answers its prompt, learned from rankings by people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.vision.image_reward_native import NativeNetwork, bert_tokens
from itscale.vision.preprocessing import Preprocessing
from itscale.vision.states import DTYPES, frozen, read_state

from .declare import built_in, check_choice
from .learned import Preprocessed, Prompted
from .table import BUILT_IN

BACKENDS = ("native", "package")
TOKENS = 35
"""Length to which prompts are padded and cut."""


@built_in("image-reward")
@dataclass(frozen=True)
class ImageReward(Preprocessed, Prompted):
    """A BLIP network whose text encoder reads the prompt and looks at the image, about N(0, 1).

    On pictures of Stable Diffusion 1.4 about 62 % of scores lie in [-1, 1]. Costs one pass of a ViT-L/16
    and one of a BERT-base with cross-attention a sample.

    Args:
        weights: the file ``ImageReward.pt``, or the folder that holds it.
        vocabulary: the file ``vocab.txt`` of BERT-base-uncased, or the folder that holds it; by default
            beside the weights, or in the folder ``bert-base-uncased`` among the weights.
        backend: ``"native"`` builds the network of transformers' BLIP classes; ``"package"`` of the
            published package, which must be installed with ``--no-deps``. Scores agree to 1e-5.

    Reference:
        Xu et al. (2023), "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image
        Generation", arXiv:2304.05977.
    """

    weights: str | None = None
    vocabulary: str | None = None
    backend: str = "native"

    def __post_init__(self) -> None:
        check_choice(self.name, "backend", self.backend, BACKENDS)
        super().__post_init__()

    def __call__(
        self, images: Float[Tensor, "m 3 h w"], prompts: Sequence[str | None] | None = None
    ) -> Float[Tensor, " m"]:
        scorer = self._network(images)
        texts = self._texts(prompts, len(images))
        return scorer(self._pixels(images, scorer.preprocessing), texts)

    def _find(self) -> Checkpoint:
        for_weights, for_vocabulary = BUILT_IN[self.name].weights
        file = for_weights.file(self.weights, self.allow_download)
        beside = file.parent / "vocab.txt"
        given = beside if self.vocabulary is None and beside.is_file() else self.vocabulary
        words = for_vocabulary.file(given, self.allow_download)
        if self.backend == "package":
            from itscale.vision.image_reward_package import package_module

            package_module()
        return Checkpoint(str(file), str(words), self.backend, self.dtype)


class Scorer:
    """A frozen network with its preprocessing and its tokens.

    Args:
        network: preprocessed images, ids and mask to scores ``[m]``.
        tokens: texts to ids and mask.
        preprocessing: what the network expects.
        dtype: in which it computes.
        device: where it is.
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor, Tensor], Tensor],
        tokens: Callable[[list[str]], tuple[Tensor, Tensor]],
        preprocessing: Preprocessing,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.network, self.tokens, self.preprocessing = network, tokens, preprocessing
        self.dtype, self.device = dtype, device

    def __call__(self, pixels: Float[Tensor, "m 3 h w"], texts: list[str]) -> Float[Tensor, " m"]:
        ids, mask = self.tokens(texts)
        return self.network(pixels.to(self.dtype), ids.to(self.device), mask.to(self.device))


@dataclass(frozen=True)
class Checkpoint:
    """The published file and the vocabulary beside it.

    Args:
        file: ``ImageReward.pt``.
        vocabulary: ``vocab.txt`` of BERT-base-uncased.
        backend: who builds the network.
        dtype: in which it computes.
    """

    file: str
    vocabulary: str
    backend: str = "native"
    dtype: str = "float32"

    def load(self, device: torch.device) -> Scorer:
        """Read the weights."""
        state = read_state(Path(self.file))
        network: Any
        if self.backend == "package":
            from itscale.vision.image_reward_package import PackageNetwork

            network = PackageNetwork(state, device)
        else:
            network = NativeNetwork(state, repr(self.file))
        return Scorer(
            frozen(network, device, self.dtype),
            bert_tokens(self.vocabulary, TOKENS),
            Preprocessing((network.sizes.image, network.sizes.image)),
            dtype=DTYPES[self.dtype],
            device=device,
        )
