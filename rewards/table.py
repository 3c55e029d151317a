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


# Typical scores are the 5 and 95 % quantiles over 3,000 handwritten digits (MNIST), hints their standard
# deviation; for the digit rewards they run from a clear other digit to a clear hit.
_DIGIT = {"typical": (-20.0, 0.0), "example_shape": (1, 28, 28)}
_SCENE = {"differentiable": False, "needs_rgb": True, "example_shape": (3, 32, 32), "batch_size": 128}
_JPEG = {"differentiable": False, "needs_rgb": True}
_LIGHT = {"typical": (0.05, 0.23), "scale_hint": 0.056}
_EDGES = {"typical": (0.03, 0.09), "scale_hint": 0.02}
_SMOOTH = {"typical": (-0.09, -0.03), "scale_hint": 0.02}
_MIRROR = {"typical": (-0.24, -0.06), "scale_hint": 0.056}
_SPREAD = {"typical": (0.2, 0.39), "scale_hint": 0.06}

BUILT_IN: dict[str, BuiltIn] = {
    "brightness": _image("brightness:Brightness", "mean luminance", 0, 1, **_LIGHT),
    "contrast": _image("contrast:Contrast", "standard deviation of the luminance", 0, 0.5, **_SPREAD),
    "digit": _image("digit:Digit", "log-probability of a digit, steering classifier", None, 0, **_DIGIT),
    "digit-judge": _image("digit:DigitJudge", "the same, held-out classifier", None, 0, **_DIGIT),
    "ink": _image("ink:Ink", "amount of bright stroke; minus it for thin ones", 0, 1, **_LIGHT),
    "jpeg-compressibility": _image("jpeg:JpegCompressibility", "minus the size as JPEG", None, 0, **_JPEG),
    "jpeg-incompressibility": _image("jpeg:JpegIncompressibility", "the size as JPEG", 0, None, **_JPEG),
    "scene-count": _image("scene:SceneCount", "minus the error in the counts of a scene", None, 0, **_SCENE),
    "scene-judge": _image(
        "scene:SceneJudge", "1 if a scene is as asked for, held-out network", 0, 1, **_SCENE
    ),
    "scene-match": _image("scene:SceneMatch", "1 if a scene is exactly as asked for", 0, 1, **_SCENE),
    "scene-relation": _image("scene:SceneRelation", "how far left is from being left", -1, 0, **_SCENE),
    "smoothness": _image("total_variation:Smoothness", "minus the total variation", -1, 0, **_SMOOTH),
    "symmetry": _image("symmetry:Symmetry", "minus the difference to the mirror image", -1, 0, **_MIRROR),
    "total-variation": _image("total_variation:TotalVariation", "difference of neighbours", 0, 1, **_EDGES),
}
