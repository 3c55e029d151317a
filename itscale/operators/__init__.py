"""Measurement operators, and likelihoods of measurements as rewards."""

from itscale.operators.base import Composed, LinearOperator, Operator, SpectralOperator
from itscale.operators.fourier import Blur, FourierMask
from itscale.operators.from_library import from_deepinv
from itscale.operators.likelihoods import (
    GaussianLikelihood,
    IntervalLikelihood,
    LaplaceLikelihood,
    Likelihood,
    PoissonLikelihood,
    likelihood_of,
)
from itscale.operators.linear import Bicubic, LinearFunction, Projection
from itscale.operators.linearised import Linearised
from itscale.operators.nonlinear import Exposure, Function, PhaseRetrieval, Quantise
from itscale.operators.observed import Coordinates, Decode, Observed, affine_of
from itscale.operators.spectral import BlockAverage, Dense, Mask
from itscale.operators.stacked import Stacked

__all__ = [
    "Bicubic",
    "BlockAverage",
    "Blur",
    "Composed",
    "Coordinates",
    "Decode",
    "Dense",
    "Exposure",
    "FourierMask",
    "Function",
    "GaussianLikelihood",
    "IntervalLikelihood",
    "LaplaceLikelihood",
    "Likelihood",
    "LinearFunction",
    "LinearOperator",
    "Linearised",
    "Mask",
    "Observed",
    "Operator",
    "PhaseRetrieval",
    "PoissonLikelihood",
    "Projection",
    "Quantise",
    "SpectralOperator",
    "Stacked",
    "affine_of",
    "from_deepinv",
    "likelihood_of",
]
