"""Models: pretrained networks with the path they were trained on. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_NAMES = {
    "BUNDLED": "itscale.models.bundled",
    "ConcreteScores": "itscale.models.concrete_scores",
    "Enumerable": "itscale.models.enumerable",
    "EpsilonScaled": "itscale.models.epsilon_scaled",
    "GaussianMixture": "itscale.models.analytic",
    "EventLaw": "itscale.models.event_law",
    "Given": "itscale.models.base",
    "Guidance": "itscale.models.guidance",
    "Inpainted": "itscale.models.inpainting",
    "LinearTilt": "itscale.models.linear_tilt",
    "MeanReverting": "itscale.models.mean_reverting",
    "Model": "itscale.models.base",
    "Pattern": "itscale.models.patterns",
    "Stitched": "itscale.models.stitching",
    "disagreement": "itscale.models.stitching",
    "load": "itscale.models.loading",
    "log_prob": "itscale.models.likelihood",
    "masked_language_model": "itscale.models.language",
    "stitched": "itscale.models.stitching",
    "wrap": "itscale.models.wrapped",
    "wrap_masked": "itscale.models.masked",
    "wrap_points": "itscale.models.point_clouds",
}

__all__ = [
    "BUNDLED",
    "ConcreteScores",
    "Enumerable",
    "EpsilonScaled",
    "EventLaw",
    "GaussianMixture",
    "Given",
    "Guidance",
    "Inpainted",
    "LinearTilt",
    "MeanReverting",
    "Model",
    "Pattern",
    "Stitched",
    "disagreement",
    "load",
    "log_prob",
    "masked_language_model",
    "stitched",
    "wrap",
    "wrap_masked",
    "wrap_points",
]

if TYPE_CHECKING:
    from itscale.models.analytic import GaussianMixture
    from itscale.models.base import Given, Model
    from itscale.models.bundled import BUNDLED
    from itscale.models.concrete_scores import ConcreteScores
    from itscale.models.enumerable import Enumerable
    from itscale.models.epsilon_scaled import EpsilonScaled
    from itscale.models.event_law import EventLaw
    from itscale.models.guidance import Guidance
    from itscale.models.inpainting import Inpainted
    from itscale.models.language import masked_language_model
    from itscale.models.likelihood import log_prob
    from itscale.models.linear_tilt import LinearTilt
    from itscale.models.loading import load
    from itscale.models.masked import wrap_masked
    from itscale.models.mean_reverting import MeanReverting
    from itscale.models.patterns import Pattern
    from itscale.models.point_clouds import wrap_points
    from itscale.models.stitching import Stitched, disagreement, stitched
    from itscale.models.wrapped import wrap


def __getattr__(name: str) -> Any:
    """Import the file of a name on first use."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
