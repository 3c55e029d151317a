"""Moves that bring the denoised sample towards a measurement before they go on: DDNM+, DDRM, DiffPIR.

All in level coordinates ``z = x / alpha``, ``s = sigma / alpha``; ``n = (x - alpha D) / sigma`` is the noise
that the
denoised sample D leaves. O are the measured spectral coordinates, with values ybar and noise tau each. None
has a target; on a Gaussian the variance of DDRM falls to 0 as steps are added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from itscale.operators import Decode, Linearised, Observed
from itscale.process import Evaluation
from itscale.solvers.base import Look, Move, Surroundings
from itscale.types import State, expand_over_event

WIDE = 1e6
"""Stands for the variance of pure noise where a finite one is needed."""


@dataclass(frozen=True, eq=False)
class MeasuredMove:
    """What moves with a measurement have in common.

    Attributes:
        observed: the measurement.
        alpha, sigma: at all grid points; the last is the data.
        decode: states to samples, as they are where the rows live.
    """

    observed: Observed
    alpha: tuple[float, ...]
    sigma: tuple[float, ...]
    decode: Decode | None = None
    gaussian: bool = False
    history: int = 0
    takes_levels: bool = False

    def placed(self, around: Surroundings) -> MeasuredMove:
        return replace(self, decode=around.decode)

    def is_noisy(self, level: int) -> bool:
        return level < len(self.alpha) - 2

    def extra_looks(self, level: int) -> int:
        return 0

    def square(self, level: int) -> float:
        """``s^2``; wide at pure noise."""
        return WIDE if self.alpha[level] == 0 else min((self.sigma[level] / self.alpha[level]) ** 2, WIDE)

    def left_noise(self, at: Evaluation, level: int, d: State) -> State:
        """``(x - alpha d) / sigma``: the noise in a state if the data are d."""
        return (at.x - self.alpha[level] * d) / self.sigma[level]

    def is_last(self, level: int) -> bool:
        return level == len(self.alpha) - 2

    def measured(self, x: State) -> tuple[Tensor, Tensor]:
        """Spectral coordinates of states, (rows, d), and those measured, (rows, m)."""
        v = self.observed.spectral.to_spectral(x)
        return v, v[:, self._index.to(v.device)]

    def replaced(self, v: Tensor, measured: Tensor) -> State:
        """States from spectral coordinates with other values where they are measured."""
        v = v.clone()
        v[:, self._index.to(v.device)] = measured.to(v)
        return self.observed.spectral.from_spectral(v)

    def value(self, like: Tensor) -> Tensor:
        return self.observed.coordinates.value.to(like)

    def tau(self, like: Tensor) -> Tensor:
        return self.observed.coordinates.tau.to(like)

    @cached_property
    def _index(self) -> Tensor:
        return self.observed.coordinates.index


@dataclass(frozen=True, eq=False)
class DDNMStep(MeasuredMove):
    """``D_O + l (ybar - D_O)`` with ``l = min(1, s' / tau)``, and noise of variance ``s'^2 - (l tau)^2`` on
    O.

    Attributes:
        eta: share of the noise that is fresh, as in DDIM.
        noiseless: take the measurement as exact, tau = 0.

    Reference:
        Wang, Yu and Zhang (2023), "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model",
        arXiv:2212.00490, DDNM+.
    """

    eta: float = 0.85
    noiseless: bool = False

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        d = at.denoised
        v, o = self.measured(d)
        s = self.sigma[level + 1] / self.alpha[level + 1]
        tau = torch.zeros_like(self.tau(o)) if self.noiseless else self.tau(o)
        share = torch.ones_like(tau) if self.is_last(level) and self.noiseless else (s / tau).clamp_max(1.0)
        corrected = self.replaced(v, o + share * (self.value(o) - o))
        if z is None or self.is_last(level):
            return Move(corrected)
        noise = math.sqrt(1 - self.eta**2) * self.left_noise(at, level, d) + self.eta * z
        w, along = self.measured(noise)
        noise = self.replaced(w, along * (1 - (share * tau / s) ** 2).clamp_min(0).sqrt())
        return Move(self.alpha[level + 1] * corrected + self.sigma[level + 1] * noise)


@dataclass(frozen=True, eq=False)
class DDRMStep(MeasuredMove):
    """Spectral denoising: while ``s' >= tau`` ybar itself with the noise that is missing, then D pulled to
    it.

    Attributes:
        eta: share of fresh noise where nothing is measured, or below tau.
        eta_b: weight of the measurement above tau.
        noiseless: take the measurement as exact, tau = 0.

    Reference:
        Kawar, Elad, Ermon and Song (2022), "Denoising Diffusion Restoration Models", arXiv:2201.11793, eqs.
        (7), (8).
    """

    eta: float = 0.85
    eta_b: float = 1.0
    noiseless: bool = False

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        d = at.denoised
        v, o = self.measured(d)
        if z is None or self.is_last(level):
            return Move(self.replaced(v, self.value(o)) if self.noiseless else d)
        s = self.sigma[level + 1] / self.alpha[level + 1]
        free = d + s * (math.sqrt(1 - self.eta**2) * self.left_noise(at, level, d) + self.eta * z)
        w, _ = self.measured(free)
        _, e = self.measured(z)
        tau = torch.zeros_like(self.tau(o)) if self.noiseless else self.tau(o)
        spare = (s**2 - (self.eta_b * tau) ** 2).clamp_min(0).sqrt()
        above = (1 - self.eta_b) * o + self.eta_b * self.value(o) + spare * e
        pull = math.sqrt(1 - self.eta**2) * s * (self.value(o) - o) / tau.clamp_min(1e-12)
        below = o + pull + self.eta * s * e
        return Move(self.alpha[level + 1] * self.replaced(w, torch.where(s >= tau, above, below)))


@dataclass(frozen=True, eq=False)
class DiffPIRStep(MeasuredMove):
    """``D' = argmin |y - A x|^2 / sigma_y^2 + lambda |x - D|^2 / s^2``, then a partly renewed noise around
    it.

    For an operator that is not linear, or a decoder that is not affine, a damped gradient step takes the
    place of the minimum.

    Attributes:
        weight: lambda.
        zeta: share of the noise's variance that is fresh.

    Reference:
        Zhu et al. (2023), "Denoising Diffusion Models for Plug-and-Play Image Restoration", arXiv:2305.08995.
    """

    weight: float = 8.0
    zeta: float = 0.3

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        d = near_measurement(self.observed, at.denoised, self.square(level) / self.weight, self.decode)
        if z is None or self.is_last(level):
            return Move(d)
        noise = math.sqrt(1 - self.zeta) * self.left_noise(at, level, d) + math.sqrt(self.zeta) * z
        return Move(self.alpha[level + 1] * d + self.sigma[level + 1] * noise)


def near_measurement(observed: Observed, d: State, variance: float, decode: Decode | None) -> State:
    """The mean of ``N(d, variance I)`` given the measurement, or a damped gradient step towards it."""
    assert decode is not None, "moves with a measurement are placed where rows live"
    if observed.is_linear:
        e = observed.gap(d, decode)
        return d + variance * observed.lift(observed.solve(e, variance))
    here = Linearised(observed, d, decode)
    damping = 1 / variance + here.square / observed.std**2
    return d + here.pull(here.gap) / observed.std**2 / expand_over_event(damping, d)
