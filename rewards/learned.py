"""What all rewards by a network share: where and how it computes, and the texts it reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from itscale.errors import ConfigError, missing_extra
from itscale.scoring import RewardSpec
from itscale.scoring.decorate import FACTS_ATTRIBUTE
from itscale.vision.image_text import resident

from .declare import check_choice

DTYPES = ("float32", "bfloat16", "float16")
PREPROCESS = ("tensor", "pil")


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Options of a reward that a network computes.

    Args:
        dtype: in which the network computes; scores are float32 always.
        device: where it lives; by default where the images are.
        allow_download: fetch missing weights from the hub.

    Attributes:
        library: the module that builds the network; looked for, and imported only when used.
    """

    dtype: str = "float32"
    device: str | None = field(default=None, repr=False)
    allow_download: bool = field(default=False, repr=False)
    _source: Any = field(init=False, repr=False)
    library: ClassVar[str] = "transformers"

    def __post_init__(self) -> None:
        if importlib.util.find_spec(self.library) is None:
            raise missing_extra(self.library, "images", f"reward {self.name!r}")
        check_choice(self.name, "dtype", self.dtype, DTYPES)
        object.__setattr__(self, "_source", self._find())

    @property
    def name(self) -> str:
        """The name in the table."""
        return getattr(type(self), FACTS_ATTRIBUTE)["name"]

    @property
    def spec(self) -> RewardSpec:
        """The facts of the table, and what the arguments change about them."""
        return RewardSpec(**{**getattr(type(self), FACTS_ATTRIBUTE), **self._changes()})

    def _changes(self) -> dict[str, Any]:
        return {}

    def _find(self) -> Any:
        """The description of the network, after a look at its files.

        Raises:
            MissingWeights: before anything runs.
        """
        raise NotImplementedError

    def _network(self, images: Tensor) -> Any:
        """The network, on the device where it computes; loaded on first use."""
        return resident(self._source, self._place(images))

    def _place(self, images: Tensor) -> torch.device:
        return images.device if self.device is None else torch.device(self.device)


@dataclass(frozen=True, kw_only=True)
class Preprocessed(Learned):
    """Options of a network that resizes images first.

    Args:
        preprocess: ``"tensor"`` is differentiable and stays on the device; ``"pil"`` repeats the published
            code through 8-bit images, without a gradient. Scores differ by about one grey level's worth.
    """

    preprocess: str = "tensor"

    def __post_init__(self) -> None:
        check_choice(self.name, "preprocess", self.preprocess, PREPROCESS)
        super().__post_init__()

    def _changes(self) -> dict[str, Any]:
        return super()._changes() | ({"differentiable": False} if self.preprocess == "pil" else {})

    def _pixels(self, images: Tensor, preprocessing: Any) -> Tensor:
        """Preprocessed images, where the network is."""
        images = images.to(self._place(images))
        return (
            preprocessing.floats(images) if self.preprocess == "tensor" else preprocessing.eight_bit(images)
        )


@dataclass(frozen=True, kw_only=True)
class Prompted(Learned):
    """Options of a network that compares images with a text.

    Args:
        prompt: one text for all samples; by default each sample's own prompt.
    """

    prompt: str | None = None

    def _changes(self) -> dict[str, Any]:
        return super()._changes() | ({} if self.prompt is None else {"needs_prompt": False})

    def _texts(self, prompts: Sequence[str | None] | None, m: int) -> list[str]:
        """One text per image.

        Raises:
            ConfigError: for samples without one.
        """
        return texts_of(self.name, self.prompt, prompts, m)


def texts_of(name: str, prompt: str | None, prompts: Sequence[str | None] | None, m: int) -> list[str]:
    """One text per sample: the one given for all, or each sample's own.

    Raises:
        ConfigError: for samples without one.
    """
    if prompt is not None:
        return [prompt] * m
    texts = list(prompts or [])
    for text in texts or [None]:
        if not isinstance(text, str):
            raise ConfigError(
                f"reward {name!r} compares images with a text, and a sample has {text!r}; condition the "
                f"run on texts, pass prompts, or write {name}(prompt='...')"
            )
    return texts  # type: ignore[return-value]
