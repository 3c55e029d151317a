"""The section ``problem``: a truth that the model itself draws, measured with noise.

A truth from the model's own law makes calibration a fact to be checked: posteriors of that law contain it as
often as they say.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.guidance import GuidanceLike
from itscale.noise import Address, Noise, Purpose
from itscale.operators import (
    BlockAverage,
    Blur,
    Dense,
    Exposure,
    GaussianLikelihood,
    IntervalLikelihood,
    Likelihood,
    Mask,
    Operator,
    PhaseRetrieval,
    PoissonLikelihood,
    Quantise,
)
from itscale.runs.schema import Room

TRUTH_SEED = 0x7A11  # apart from the seeds of runs


@dataclass(frozen=True, kw_only=True)
class Problem(ABC):
    """What is measured, and how noisily.

    Attributes:
        noise: standard deviation, in units of pixels in [0, 1] times what the operator makes of them.
    """

    noise: float = 0.05

    @abstractmethod
    def operator(self, shape: tuple[int, ...]) -> Operator:
        """Return the operator on samples of a shape."""

    def likelihood(self, operator: Operator, truth: Tensor, n: Tensor, u: Tensor) -> Likelihood:
        """Measure a truth; n are standard normals and u uniforms, shaped like a measurement."""
        y = operator(truth[None])[0]
        return GaussianLikelihood(operator, y + self.noise * n.to(y), self.noise)


@dataclass(frozen=True, kw_only=True)
class Inpainting(Problem):
    """Pixels are missing: a box in the middle, the right half, or most of them at random.

    Attributes:
        missing: ``"box"``, ``"half"`` or ``"random"``.
        share: of the pixels that are missing at random, or of the sides of the box.
    """

    missing: Literal["box", "half", "random"] = "half"
    share: float = 0.5

    def operator(self, shape: tuple[int, ...]) -> Mask:
        seen = torch.ones(shape, dtype=torch.bool)
        h, w = shape[-2:]
        if self.missing == "half":
            seen[..., w - round(self.share * w) :] = False
        elif self.missing == "box":
            a, b = round(h * (1 - self.share) / 2), round(w * (1 - self.share) / 2)
            seen[..., a : h - a, b : w - b] = False
        else:
            seen = torch.rand(shape, generator=torch.Generator().manual_seed(TRUTH_SEED)) >= self.share
        return Mask(seen)


@dataclass(frozen=True, kw_only=True)
class SuperResolution(Problem):
    """Means of blocks of pixels.

    Attributes:
        factor: sides of a block.
    """

    factor: int = 4

    def operator(self, shape: tuple[int, ...]) -> BlockAverage:
        c, h, w = shape
        return BlockAverage((c, h, w), self.factor)


@dataclass(frozen=True, kw_only=True)
class Deblurring(Problem):
    """A Gaussian blur.

    Attributes:
        width: standard deviation of the kernel in pixels.
    """

    width: float = 2.0

    def operator(self, shape: tuple[int, ...]) -> Blur:
        c, h, w = shape
        reach = min(math.ceil(3 * self.width), (min(h, w) - 1) // 2)
        axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
        line = torch.exp(-(axis**2) / (2 * self.width**2))
        kernel = line[:, None] * line
        return Blur(kernel / kernel.sum(), (c, h, w))


@dataclass(frozen=True, kw_only=True)
class RandomProjections(Problem):
    """Products with random normal vectors of norm about 1.

    Attributes:
        measurements: how many.
    """

    measurements: int = 32

    def operator(self, shape: tuple[int, ...]) -> Dense:
        generator = torch.Generator().manual_seed(TRUTH_SEED)
        d = math.prod(shape)
        if not 1 <= self.measurements <= d:
            raise ConfigError(f"problem.measurements must be in [1, {d}], got {self.measurements}")
        matrix = torch.randn(self.measurements, d, generator=generator, dtype=torch.float64) / math.sqrt(d)
        return Dense(2 * matrix, shape)  # so that digits give values of some tenths


@dataclass(frozen=True, kw_only=True)
class PhaseProblem(Problem):
    """Magnitudes of the Fourier transform.

    Attributes:
        oversampling: sides of the padded image over the image's.
    """

    oversampling: float = 2.0

    def operator(self, shape: tuple[int, ...]) -> PhaseRetrieval:
        c, h, w = shape
        return PhaseRetrieval((c, h, w), self.oversampling)


@dataclass(frozen=True, kw_only=True)
class HighDynamicRange(Problem):
    """Pixels times ``factor``, clipped at 1."""

    factor: float = 2.0

    def operator(self, shape: tuple[int, ...]) -> Exposure:
        return Exposure(shape, self.factor)


@dataclass(frozen=True, kw_only=True)
class Quantised(Problem):
    """Pixels in a few grey levels, with noise before rounding; the likelihood is that of the cells."""

    bits: int = 1

    def operator(self, shape: tuple[int, ...]) -> Mask:
        return Mask(torch.ones(shape, dtype=torch.bool))

    def likelihood(self, operator: Operator, truth: Tensor, n: Tensor, u: Tensor) -> Likelihood:
        y = operator(truth[None])[0]
        quantiser = Quantise((operator.size,), self.bits)
        return IntervalLikelihood(operator, quantiser(y + self.noise * n.to(y)), quantiser, self.noise)


@dataclass(frozen=True, kw_only=True)
class LowLight(Problem):
    """Counts of photons of blocks of pixels, Poisson; ``noise`` is not used.

    Attributes:
        gain: expected count of a white pixel.
        factor: sides of a block.
    """

    gain: float = 4.0
    factor: int = 2

    def operator(self, shape: tuple[int, ...]) -> BlockAverage:
        c, h, w = shape
        return BlockAverage((c, h, w), self.factor)

    def likelihood(self, operator: Operator, truth: Tensor, n: Tensor, u: Tensor) -> Likelihood:
        rate = (self.gain * operator(truth[None])[0].double()).clamp_min(1e-3)
        counts, term = torch.zeros_like(rate), (-rate).exp()  # by the inverse of the distribution function
        below = term.clone()
        for k in range(1, 40 + round(6 * self.gain)):
            counts += (u > below).double()
            term = term * rate / k
            below += term
        return PoissonLikelihood(operator, counts.float(), self.gain)


PROBLEMS: dict[str, type[Problem]] = {
    "inpainting": Inpainting,
    "super-resolution": SuperResolution,
    "deblurring": Deblurring,
    "random-projections": RandomProjections,
    "phase-retrieval": PhaseProblem,
    "high-dynamic-range": HighDynamicRange,
    "quantised": Quantised,
    "low-light": LowLight,
}
PROBLEM = Room("problem", PROBLEMS)


@dataclass(frozen=True)
class Measured:
    """A truth in units of samples, and the likelihood of its measurement."""

    truth: Tensor
    likelihood: Likelihood


@dataclass(frozen=True)
class Draw:
    """How a cell's truth is drawn: by the sampler whose law its methods condition."""

    name: str
    options: str
    condition: Any
    guidance: GuidanceLike
    process: Any
    solver: Any
    grid: Any
    steps: int
    seed: int
    model: Any = field(compare=False)


def sketch(problem: Problem, model: Any) -> Likelihood:
    """A likelihood of nothing in particular, to plan with: no truth is drawn."""
    operator = problem.operator(_shape(model))
    zeros = torch.zeros(operator.measurement_shape)
    return problem.likelihood(operator, torch.full(_shape(model), 0.5), zeros, zeros.double())


def measured(problem: Problem, draw: Draw) -> Measured:
    """Draw the truth, measure it, and return both; the same for all methods of a sweep."""
    truth = _truth(draw)
    operator = problem.operator(tuple(truth.shape))
    zero = torch.zeros(1, dtype=torch.int64)
    address, noise = Address(zero, zero, zero, zero), Noise(draw.seed ^ TRUTH_SEED)
    n = noise.normal(Purpose.USER, address, operator.measurement_shape, torch.float32)[0]
    u = noise.uniform(Purpose.USER + 1, address, operator.size).reshape(operator.measurement_shape)
    return Measured(truth, problem.likelihood(operator, truth, n, u))


@cache
def _truth(draw: Draw) -> Tensor:
    from itscale.sampling import sample

    result = sample(
        draw.model,
        n=1,
        steps=draw.steps,
        process=draw.process,
        solver=draw.solver,
        grid=draw.grid,
        condition=draw.condition,
        guidance=draw.guidance,
        seed=draw.seed ^ TRUTH_SEED,
    )
    return result.samples[0, 0]


def _shape(model: Any) -> tuple[int, ...]:
    """Shape of a decoded sample."""
    event = torch.zeros(1, *model.event_shape)
    shape = tuple(model.decode(event).shape[1:])
    if len(shape) != 3:
        raise ConfigError(f"a problem measures images (c, h, w), and the model makes samples {shape}")
    return shape
