"""Diffusion coefficients: how much noise the sampling SDE carries. Marginals do not depend on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from itscale.errors import ConfigError, unknown_name
from itscale.interpolants import Interpolant

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(48)

Shape: TypeAlias = Callable[[float, Interpolant], float]

SHAPES: dict[str, Shape] = {
    "zero": lambda t, path: 0.0,
    "constant": lambda t, path: 1.0,
    "sigma": lambda t, path: float(path.sigma(t)),
    "linear": lambda t, path: 1.0 - t,
    "t-squared": lambda t, path: (1.0 - t) ** 2,
    "sine": lambda t, path: math.sin(math.pi * (1.0 - t) / 2),
    "decreasing": lambda t, path: (1.0 - math.cos(math.pi * (1.0 - t))) ** 2 / 4,
    "sin-squared": lambda t, path: math.sin(math.pi * (1.0 - t)) ** 2,
}
"""Functions of time ("t" in a name is noise time, 1 - t here, as in the literature)."""


@runtime_checkable
class Diffusion(Protocol):
    """A diffusion coefficient g(t) >= 0 of ``dX = (u + g^2/2 score) dt + g dW``."""

    def __call__(self, t: float, path: Interpolant) -> float: ...

    def exponent(self, t0: float, t1: float, path: Interpolant) -> float:
        """Return the integral of g^2 / (2 sigma^2) over [t0, t1].

        It is how far the noise part of the state is forgotten: a transition keeps ``exp(-exponent)`` of it.
        """
        ...


def _quadrature(g: Callable[[float], float], sigma: Callable[[float], float], t0: float, t1: float) -> float:
    half = (t1 - t0) / 2
    times = t0 + half * (_NODES + 1)
    values = [(g(t) / sigma(t)) ** 2 / 2 for t in times]
    return float(half * np.dot(_NODE_WEIGHTS, values))


@dataclass(frozen=True)
class Coefficient:
    """``g = scale * shape(t)``."""

    shape: str | Callable[[float], float]
    scale: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.shape, str) and self.shape not in SHAPES:
            raise unknown_name("diffusion coefficient", self.shape, [*SHAPES, "natural", "renoise"])
        _check_scale(self.scale)

    def __call__(self, t: float, path: Interpolant) -> float:
        value = SHAPES[self.shape](t, path) if isinstance(self.shape, str) else float(self.shape(t))
        return self.scale * value

    def exponent(self, t0: float, t1: float, path: Interpolant) -> float:
        if self.shape == "sigma":
            return self.scale**2 * (t1 - t0) / 2
        if self.shape == "zero":
            return 0.0
        return _quadrature(lambda t: self(t, path), lambda t: float(path.sigma(t)), t0, t1)


@dataclass(frozen=True)
class Epsilon:
    """``g = sqrt(2 c shape(t))``: the other convention, where the named function is half of g squared."""

    shape: str | Callable[[float], float]
    c: float = 1.0

    def __post_init__(self) -> None:
        Coefficient(self.shape)
        _check_scale(self.c)

    def __call__(self, t: float, path: Interpolant) -> float:
        return math.sqrt(2 * self.c * Coefficient(self.shape)(t, path))

    def exponent(self, t0: float, t1: float, path: Interpolant) -> float:
        return _quadrature(lambda t: self(t, path), lambda t: float(path.sigma(t)), t0, t1)


@dataclass(frozen=True)
class Natural:
    """``g^2 = eta_sde * 2 sigma W / alpha``: at 1, the coefficient that reverses the score-free noising SDE.

    Also the optimal one, ``"optimal"``: a network's error e in velocity is ``2 e / g^2`` in the score (g of
    eta 1), so the drift is off by ``(1 + eta) e`` and the path-space error grows at ``(1 + eta)^2 |e|^2 /
    (2 eta g^2)``, least at eta 1 (Ma et al. 2024, "SiT", arXiv:2401.08740). That is a bound; it
    speaks neither of few steps nor of samples. Its exponent is the gain in half log-SNR; infinite where
    alpha = 0.
    """

    eta_sde: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self.eta_sde)

    def __call__(self, t: float, path: Interpolant) -> float:
        alpha = float(path.alpha(t))
        if alpha == 0:
            return math.inf
        return math.sqrt(self.eta_sde * 2 * float(path.sigma(t)) * float(path.wronskian(t)) / alpha)

    def exponent(self, t0: float, t1: float, path: Interpolant) -> float:
        k0, k1 = float(path.kappa(t0)), float(path.kappa(t1))
        if k1 == 0 or math.isinf(k0):
            return math.inf if self.eta_sde else 0.0
        return self.eta_sde * math.log(k0 / k1)


@dataclass(frozen=True)
class Renoise:
    """Draw the noise anew at every step, ``x+ = alpha_+ D + sigma_+ z``: how distilled models are sampled.

    The limit of a growing coefficient. It keeps no marginals unless the model jumps to the data, as
    consistency models do, whose law is that of this sampler.

    Reference:
        Song et al. (2023), "Consistency Models", arXiv:2303.01469, Algorithm 1.
    """

    def __call__(self, t: float, path: Interpolant) -> float:
        return math.inf

    def exponent(self, t0: float, t1: float, path: Interpolant) -> float:
        return math.inf


def get_diffusion(value: str | float | Callable[[float], float] | Diffusion) -> Diffusion:
    """Turn a name, a constant, a function of time, or a coefficient into a coefficient."""
    if isinstance(value, Diffusion):
        return value
    if isinstance(value, str):
        if value == "renoise":
            return Renoise()
        return Natural() if value in ("natural", "optimal") else Coefficient(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Coefficient("constant", float(value))
    if callable(value):
        return Coefficient(value)
    raise ConfigError(
        f"diffusion must be a name, a number, a function of t or a coefficient, got {value!r}; "
        f"names: natural, renoise, {', '.join(SHAPES)}"
    )


def _check_scale(scale: float) -> None:
    if not (isinstance(scale, int | float) and 0 <= scale < math.inf):
        raise ConfigError(f"the scale of a diffusion coefficient must be finite and >= 0, got {scale!r}")
