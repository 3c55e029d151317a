"""The table of built-in rewards: name -> class and facts. Readable without torch."""

from __future__ import annotations

from typing import Any, NamedTuple


class BuiltIn(NamedTuple):
    """One built-in reward.

    Attributes:
        target: ``module:class``; the class takes the reward's arguments.
        facts: fields of ``itscale.scoring.RewardSpec``, without the name.
    """

    target: str
    facts: dict[str, Any]


def _image(target: str, doc: str, low: float | None, high: float | None, **facts: Any) -> BuiltIn:
    """A differentiable reward of our own on images, with scores between ``low`` and ``high``."""
    common = {"modality": "image", "differentiable": True, "licence": "Apache-2.0"}
    return BuiltIn(f"itscale.rewards.{target}", {**common, "doc": doc, "range": (low, high), **facts})


_DIGIT = {"scale_hint": 3.0, "example_shape": (1, 28, 28)}
_JPEG = {"differentiable": False, "needs_rgb": True}

BUILT_IN: dict[str, BuiltIn] = {
    "brightness": _image("brightness:Brightness", "mean luminance", 0, 1),
    "contrast": _image("contrast:Contrast", "standard deviation of the luminance", 0, 0.5),
    "digit": _image("digit:Digit", "log-probability of a digit, steering classifier", None, 0, **_DIGIT),
    "digit-judge": _image("digit:DigitJudge", "the same, held-out classifier", None, 0, **_DIGIT),
    "ink": _image("ink:Ink", "amount of bright stroke; minus it for thin ones", 0, 1),
    "jpeg-compressibility": _image("jpeg:JpegCompressibility", "minus the size as JPEG", None, 0, **_JPEG),
    "jpeg-incompressibility": _image("jpeg:JpegIncompressibility", "the size as JPEG", 0, None, **_JPEG),
    "smoothness": _image("total_variation:Smoothness", "minus the total variation", -1, 0),
    "symmetry": _image("symmetry:Symmetry", "minus the difference to the mirror image", -1, 0),
    "total-variation": _image("total_variation:TotalVariation", "difference of neighbouring pixels", 0, 1),
}
