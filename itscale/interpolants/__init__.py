"""Paths between noise and data: ``alpha``, ``sigma``, their derivatives, conversions, change of path."""

from __future__ import annotations

from itscale.errors import ConfigError, unknown_name
from itscale.interpolants.base import Interpolant
from itscale.interpolants.conversion import match
from itscale.interpolants.cosine import Cosine
from itscale.interpolants.edm import EDM
from itscale.interpolants.linear import Linear
from itscale.interpolants.ornstein_uhlenbeck import OrnsteinUhlenbeck
from itscale.interpolants.predictions import (
    KINDS,
    Coefficients,
    Kind,
    coefficients,
    denoised,
    denoised_factors,
    is_fixed,
    noise,
    raw_from,
    score,
    velocity,
)
from itscale.interpolants.table import Table
from itscale.interpolants.trigonometric import Trigonometric
from itscale.interpolants.ve import VE
from itscale.interpolants.vp import VP

__all__ = [
    "EDM",
    "INTERPOLANTS",
    "KINDS",
    "VE",
    "VP",
    "Coefficients",
    "Cosine",
    "Interpolant",
    "Kind",
    "Linear",
    "OrnsteinUhlenbeck",
    "Table",
    "Trigonometric",
    "coefficients",
    "denoised",
    "denoised_factors",
    "get_interpolant",
    "is_fixed",
    "match",
    "noise",
    "raw_from",
    "score",
    "velocity",
]

INTERPOLANTS: dict[str, type[Interpolant]] = {
    "linear": Linear,
    "trigonometric": Trigonometric,
    "gvp": Trigonometric,
    "vp": VP,
    "cosine": Cosine,
    "ve": VE,
    "edm": EDM,
    "table": Table,
    "ornstein-uhlenbeck": OrnsteinUhlenbeck,
}


def get_interpolant(interpolant: str | Interpolant) -> Interpolant:
    """Return an interpolant as it is, or the one of this name with its default settings.

    Raises:
        UnknownName: if no interpolant has this name.
        ConfigError: if neither a name nor an interpolant is given.
    """
    if isinstance(interpolant, str):
        try:
            return INTERPOLANTS[interpolant.lower()]()
        except KeyError:
            raise unknown_name("interpolant", interpolant, INTERPOLANTS) from None
    if isinstance(interpolant, type) or not isinstance(interpolant, Interpolant):
        raise ConfigError(
            f"an interpolant must be a name ({', '.join(INTERPOLANTS)}) or an instance such as Linear(), "
            f"got {interpolant!r}"
        )
    return interpolant
