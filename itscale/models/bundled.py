"""Models that ship inside the package; their cards lie in ``networks/cards``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.dna import load_dna, load_dna_uniform
from itscale.models.image_flow import ImageFlow
from itscale.models.lennard_jones import load_lennard_jones
from itscale.models.molecules import MODELS
from itscale.models.text import load_text
from itscale.networks.scene_unet import SceneUNet
from itscale.networks.shipped import with_weights
from itscale.networks.unet import DigitUNet
from itscale.scenes import as_prompt, encode


@dataclass(frozen=True, eq=False)
class DigitFlow(ImageFlow):
    """Flow model of handwritten digits, 1 x 28 x 28 in [-1, 1], conditional on the digit.

    Conditions are integers 0 to 9, or ``None`` for any digit.

    Example:
        >>> model = load_digits()
        >>> condition = model.encode([7, None])
        >>> x = torch.zeros(2, *model.event_shape)
        >>> model.predict(x, torch.tensor(0.5, dtype=torch.float64), condition).shape
        torch.Size([2, 1, 28, 28])
    """

    network: DigitUNet
    event_shape: tuple[int, ...] = (1, 28, 28)

    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return the labels, ``(g,)`` int64; ``None`` becomes the label for any digit.

        Raises:
            ConfigError: for anything but integers 0 to 9 and ``None``.
        """
        return torch.tensor([self._label(condition) for condition in conditions], dtype=torch.int64)

    def _label(self, condition: Any) -> int:
        if condition is None:
            return self.network.NO_CLASS
        if isinstance(condition, Tensor) and condition.ndim == 0 and not condition.is_floating_point():
            condition = condition.item()
        whole = isinstance(condition, Integral) and not isinstance(condition, bool)
        if not whole or not 0 <= int(condition) < self.network.CLASSES:
            raise ConfigError(
                f"condition {condition!r} is no digit; 'digits' takes an integer 0 to 9, or None for any"
            )
        return int(condition)


@dataclass(frozen=True, eq=False)
class SceneFlow(ImageFlow):
    """Flow model of scenes, 3 x 32 x 32 in [-1, 1], conditional on a prompt.

    Conditions are texts such as ``"2 blue squares and 1 green triangle"``, ``scenes.Prompt`` objects, whole
    numbers for the prompts of the benchmark, or ``None`` for any scene.

    Example:
        >>> model = load_scenes()
        >>> model.encode(["3 red circles", None]).shape
        torch.Size([2, 37])
    """

    network: SceneUNet
    event_shape: tuple[int, ...] = (3, 32, 32)

    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return the encoded prompts, ``(g, 37)`` float32; zeros for any scene.

        Raises:
            ConfigError: for what is no prompt, naming the word that is not understood.
        """
        return encode([None if condition is None else as_prompt(condition) for condition in conditions])


class Bundled(NamedTuple):
    """A bundled model: how to load it, what it is in one line, and whether it is a masked model."""

    load: Callable[[], Any]
    description: str
    is_masked: bool = False


def load_digits() -> DigitFlow:
    """Load the bundled flow model of handwritten digits, on the CPU in float32."""
    return DigitFlow(with_weights(DigitUNet(), "digits"))


def load_scenes() -> SceneFlow:
    """Load the bundled flow model of scenes, on the CPU in float32."""
    return SceneFlow(with_weights(SceneUNet(), "scenes"))


BUNDLED: dict[str, Bundled] = {
    "dna": Bundled(load_dna, "DNA of 8 letters that HOXD13 binds, masked diffusion", is_masked=True),
    "dna-uniform": Bundled(load_dna_uniform, "DNA of 8 letters, all alike, in closed form", is_masked=True),
    "digits": Bundled(load_digits, "handwritten digits, 1 x 28 x 28, conditional flow (MNIST)"),
    "lennard-jones": Bundled(
        load_lennard_jones, "13 points in a Lennard-Jones cluster at temperature 2, diffusion on VE"
    ),
    "molecules": Bundled(
        MODELS["zinc"].load, "drug-like molecules, masked diffusion on SELFIES (ZINC-250k)", is_masked=True
    ),
    "molecules-tiny": Bundled(
        MODELS["qm9"].load, "molecules of up to 9 heavy atoms, masked diffusion (QM9)", is_masked=True
    ),
    "scenes": Bundled(load_scenes, "coloured shapes, 3 x 32 x 32, flow conditional on counts and places"),
    "text": Bundled(
        load_text, "English of Shakespeare's plays, 128 characters, masked diffusion", is_masked=True
    ),
}
