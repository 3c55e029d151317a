"""Algebra over models: products, powers and quotients of densities, as expressions that say what is meant.

An expression is inert: it holds experts with exponents. ``itscale.process`` makes an SDE of it, and the
engine weighs particles so that they follow it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from itscale.errors import ConfigError
from itscale.models.composition import Composition, check_experts, identity, moments_of, name_of

if TYPE_CHECKING:
    from itscale.models.superposition import EqualDensity, Mixture

Exponent: TypeAlias = float | Callable[[float], float]
"""A number, or a function of time (0 is noise, 1 is data)."""

GAUGES = ("gaussian", "adaptive", "velocity-sum", "none")
WEIGHTS = ("trapezoid", "euler", "kernel")


@dataclass(frozen=True)
class Ramp:
    """An exponent that changes evenly in time, from ``start`` at the noise to ``end`` at the data."""

    start: float
    end: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ConfigError(f"a ramp needs two finite numbers, got {self.start!r} and {self.end!r}")

    def __call__(self, t: float) -> float:
        return self.start + (self.end - self.start) * t

    def __mul__(self, factor: float) -> Ramp:
        return Ramp(self.start * factor, self.end * factor)

    def __repr__(self) -> str:
        return f"ramp({self.start:g}, {self.end:g})"


class Composable:
    """What every model can do: ``a ** 0.7 * b``, ``a / b``, ``a | b``, ``a & b``, ``a.tilted(reward)``."""

    def __pow__(self, exponent: Exponent) -> Product:
        return Product.of(self) ** exponent

    def __mul__(self, other: Any) -> Product:
        return Product.of(self) * other

    def __truediv__(self, other: Any) -> Product:
        return Product.of(self) / other

    def __or__(self, other: Any) -> Mixture:
        """Samples of one expert or another; see ``compose.mixture``."""
        from itscale.models.superposition import Mixture  # which is built on this file

        return Mixture.joined(self, other)

    def __and__(self, other: Any) -> EqualDensity:
        """Samples that are as likely under one expert as under the other; see ``compose.equal_density``."""
        from itscale.models.superposition import EqualDensity

        return EqualDensity.joined(self, other)

    def tilted(self, reward: Any, tilt: float = 1.0) -> Any:
        """The law proportional to ``p(x) exp(tilt r(x))``."""
        return Product.of(self).tilted(reward, tilt)


@dataclass(frozen=True, eq=False)
class Term:
    """An expert and the exponent of its density."""

    model: Any
    exponent: Exponent

    def at(self, t: float) -> float:
        """The exponent at time t."""
        return _value(self.exponent, t)

    def rate(self, t: float) -> float:
        """Its derivative, by a central difference inside [0, 1]."""
        if not callable(self.exponent):
            return 0.0
        low, high = max(0.0, t - 1e-4), min(1.0, t + 1e-4)
        return (self.at(high) - self.at(low)) / (high - low)

    def __repr__(self) -> str:
        name = name_of(self.model)
        if isinstance(self.exponent, Ramp):
            return f"{name} ** {self.exponent}"
        if callable(self.exponent):
            return f"{name} ** {getattr(self.exponent, '__name__', 'exponent')}(t)"
        return name if self.exponent == 1 else f"{name} ** {self.exponent:g}"


@dataclass(frozen=True, eq=False)
class Product(Composition, Composable):
    """The law proportional to ``prod_i q_i(x)^(b_i)``, times ``exp(tilt r(x))`` if there is a reward.

    Written as algebra: ``a ** 0.7 * b ** 1.3``, ``(c / u) ** w * u`` (guidance), ``(a * b) ** 0.5``. The same
    expert twice is one with the sum of the exponents. ``sample`` draws from it: particles move along a
    simple mixture of the experts' scores and are weighted by what that leaves out, so weighted samples follow
    the product itself and ``log_evidence`` is the logarithm of its normaliser.

    Attributes:
        terms: experts with exponents; a function of time needs the experts' densities, known or followed.
        reward, tilt: of the tilt; ``sample`` takes them over.
        gauge: the linear drift added where exponents do not sum to one. ``"gaussian"`` is exact for normal
            data of the variance ``variance``; ``"adaptive"`` is fitted to the weighted particles of every
            group at every look, for the least variance of the weights' rate (a bias of order 1/N, so the
            evidence is consistent and no longer unbiased; for groups of a hundred and more);
            ``"velocity-sum"`` is exact for the noise end; ``"none"`` is the published corrector.
        weights: ``"trapezoid"`` or ``"euler"`` integrate the weights' rate; ``"kernel"`` takes ratios of
            transition densities, right for any number of steps, where the experts' densities are known.
        mean, variance: of the data per coordinate, over all modes; None asks the experts, or is 0 and 1.
        density: ``"ito"`` or ``"exact"`` follows the experts' log-densities along the run, into
            ``result.log_densities``; see ``process.density``.
        divergence: ``"exact"`` or ``"hutchinson"``, for ``density="ito"`` on the ODE or another noise.

    Reference:
        Skreta et al. (2025), "Feynman-Kac Correctors in Diffusion", arXiv:2503.02819.
    """

    terms: tuple[Term, ...]
    reward: Any = None
    tilt: float = 1.0
    gauge: Literal["gaussian", "adaptive", "velocity-sum", "none"] = "gaussian"
    weights: Literal["trapezoid", "euler", "kernel"] = "trapezoid"
    mean: float | None = None
    variance: float | None = None
    density: Literal["ito", "exact"] | None = None
    divergence: Literal["exact", "hutchinson"] | None = None

    def __post_init__(self) -> None:
        check_experts(self.experts)
        self.check_density()
        if self.gauge not in GAUGES:
            raise ConfigError(f"gauge must be one of {', '.join(GAUGES)}, got {self.gauge!r}")
        if self.weights not in WEIGHTS:
            raise ConfigError(f"weights must be one of {', '.join(WEIGHTS)}, got {self.weights!r}")
        if self.variance is not None and not 0 < self.variance < math.inf:
            raise ConfigError(f"variance of the data must be > 0, got {self.variance!r}")

    @classmethod
    def of(cls, model: Any) -> Product:
        """A model as a product of one expert; a product stays as it is."""
        return model if isinstance(model, Product) else cls((Term(model, 1.0),))

    def __pow__(self, exponent: Exponent) -> Product:
        if self.reward is not None:
            raise ConfigError(f"take the power before the tilt: ({self}) ** {exponent!r} is ambiguous")
        if not callable(exponent) and not (isinstance(exponent, int | float) and math.isfinite(exponent)):
            raise ConfigError(f"an exponent must be a finite number or a function of t, got {exponent!r}")
        return self._with([Term(term.model, _times(term.exponent, exponent)) for term in self.terms])

    def __mul__(self, other: Any) -> Product:
        return self._joined(other, 1.0)

    def __truediv__(self, other: Any) -> Product:
        return self._joined(other, -1.0)

    @property
    def experts(self) -> tuple[Any, ...]:
        return tuple(term.model for term in self.terms)

    def corrected(self, **settings: Any) -> Product:
        """The same law with other ``gauge``, ``weights``, ``mean``, ``variance`` or ``density``."""
        return replace(self, **settings)

    def power(self, t: float) -> float:
        """Sum of the exponents at time t."""
        return sum(term.at(t) for term in self.terms)

    def check(self) -> None:
        """Raise unless particles can be drawn and weighted.

        Raises:
            ConfigError: naming the exponent or the expert that cannot be used.
        """
        changes = any(callable(term.exponent) for term in self.terms) and self.density is None
        for term in self.terms:
            if (self.weights == "kernel" or changes) and not hasattr(term.model, "marginal_log_prob"):
                raise ConfigError(
                    "weights='kernel' and exponents that change with time need the density of every expert "
                    f"at every time, and {name_of(term.model)} has none (marginal_log_prob); use "
                    "weights='trapezoid', and constant exponents or .corrected(density='ito')"
                )
        if self.weights == "kernel" and self.gauge == "adaptive":
            raise ConfigError(
                "weights='kernel' have no bias, and gauge='adaptive' is fitted to the particles, which "
                "brings one; use gauge='gaussian', or weights='trapezoid'"
            )
        for t in (0.0, 1.0):
            if not self.power(t) > 0:
                raise ConfigError(
                    f"the exponents of {self} sum to {self.power(t):g} at t = {t:g}; they must sum to more "
                    "than 0, or the product is no law at the noise end"
                )

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance per coordinate that the Gaussian gauge takes the data to have."""
        mean, variance = moments_of(self.experts)
        return (
            mean if self.mean is None else self.mean,
            variance if self.variance is None else self.variance,
        )

    def given(self, condition: Any, guidance: float = 1.0) -> Product:
        """Refuse: a condition belongs to an expert, and guidance is a product of powers."""
        raise ConfigError(
            f"condition={condition!r}, guidance={guidance!r} do not fit a composition; bind conditions to "
            "experts, and write guidance as (model.given(c) / model) ** w * model"
        )

    def to(self, device: torch.device | str) -> Product:
        return replace(self, terms=tuple(Term(term.model.to(device), term.exponent) for term in self.terms))

    def __repr__(self) -> str:
        text = " * ".join(str(term) for term in self.terms)
        if self.reward is None:
            return text
        return f"({text}).tilted({getattr(self.reward, 'name', self.reward)}, {self.tilt:g})"

    def _joined(self, other: Any, sign: float) -> Product:
        if not isinstance(other, Composable):
            raise ConfigError(
                f"experts are multiplied with models, got {other!r}; a reward is joined with .tilted(reward)"
            )
        factor = Product.of(other)
        if factor.reward is not None and (sign < 0 or self.reward is not None):
            raise ConfigError("only one factor may be tilted; tilt the whole product instead")
        terms = [*self.terms, *(Term(term.model, _times(term.exponent, sign)) for term in factor.terms)]
        joined = self._with(terms)
        if factor.reward is None:
            return joined
        return replace(joined, reward=factor.reward, tilt=factor.tilt)

    def _with(self, terms: Sequence[Term]) -> Product:
        """The product of these terms, each expert once."""
        merged: dict[Any, Term] = {}
        for term in terms:
            key = identity(term.model)
            if key in merged:
                term = Term(merged[key].model, _plus(merged[key].exponent, term.exponent))
            merged[key] = term
        kept = tuple(term for term in merged.values() if callable(term.exponent) or term.exponent != 0)
        return replace(self, terms=kept or tuple(merged.values())[:1])


def _times(first: Exponent, second: Exponent) -> Exponent:
    if first == 1:
        return second
    for ramp, number in ((first, second), (second, first)):
        if isinstance(ramp, Ramp) and not callable(number):
            return ramp * number
    if callable(first) or callable(second):
        return lambda t: _value(first, t) * _value(second, t)
    return float(first) * float(second)


def _plus(first: Exponent, second: Exponent) -> Exponent:
    if callable(first) or callable(second):
        return lambda t: _value(first, t) + _value(second, t)
    return float(first) + float(second)


def _value(exponent: Exponent, t: float) -> float:
    return float(exponent(t)) if callable(exponent) else float(exponent)
