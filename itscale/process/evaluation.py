"""One look at the model at a state and a time; everything else about that point is algebra on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from torch import Tensor

from itscale import interpolants
from itscale.interpolants import Coefficients, Interpolant
from itscale.types import State, Time

Kind: TypeAlias = Literal["velocity", "noise", "denoised", "v"]


@dataclass(frozen=True)
class Evaluation:
    """A raw network output and the point it belongs to.

    Attributes:
        x: states, (rows, *event).
        t: time, () or (rows,), float64.
        kind: what ``raw`` is.
        raw: the network's output, shaped like ``x``.
        interpolant: the path that ``x`` and ``t`` live on.
        parts: evaluations that ``raw`` was combined from (experts, guidance), if they were kept.
    """

    x: State
    t: Time
    kind: Kind
    raw: State
    interpolant: Interpolant
    parts: tuple[Evaluation, ...] = ()

    @cached_property
    def coefficients(self) -> Coefficients:
        return interpolants.coefficients(self.interpolant, self.t)

    @cached_property
    def denoised(self) -> Tensor:
        """E[x_1 | x_t = x]: the posterior mean of the data."""
        return interpolants.denoised(self.kind, self.raw, self.x, self.coefficients)

    @cached_property
    def expected(self) -> Tensor:
        """The sample that this point is expected to lead to; the denoised one, but for compositions."""
        return self.denoised

    @property
    def output(self) -> State:
        """What a denoised sample is made of beside the state: the raw output, but for compositions."""
        return self.raw

    def denoised_factors(self, c: Coefficients) -> tuple[float, float]:
        """``p`` and ``q`` of a denoised sample ``p x + q output`` at a time ``()`` of this path."""
        return interpolants.denoised_factors(self.kind, c)

    @cached_property
    def noise(self) -> Tensor:
        """E[x_0 | x_t = x]: the posterior mean of the noise."""
        return interpolants.noise(self.kind, self.raw, self.x, self.coefficients)

    @cached_property
    def velocity(self) -> Tensor:
        """E[alpha' x_1 + sigma' x_0 | x_t = x]: the drift of the probability-flow ODE."""
        return interpolants.velocity(self.kind, self.raw, self.x, self.coefficients)

    @cached_property
    def score(self) -> Tensor:
        """The gradient of log p_t at x."""
        return interpolants.score(self.kind, self.raw, self.x, self.coefficients)
