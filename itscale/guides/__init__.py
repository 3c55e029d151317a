"""Guides: what is added to the noise of a move. Whatever a guide does, weights make up for it exactly."""

from itscale.guides.base import Bridge, Context, Guide, View, capped
from itscale.guides.gradient import DenoisedGradient, NetworkGradient
from itscale.guides.langevin import Langevin
from itscale.guides.population import Population
from itscale.guides.regression import Regression, Slope
from itscale.guides.twist import Assessor, Correction, Prospect, Twist

__all__ = [
    "Assessor",
    "Bridge",
    "Context",
    "Correction",
    "DenoisedGradient",
    "Guide",
    "Langevin",
    "NetworkGradient",
    "Population",
    "Prospect",
    "Regression",
    "Slope",
    "Twist",
    "View",
    "capped",
]
