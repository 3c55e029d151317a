"""A product of experts set in motion: the drift of particles, and the rate of weights that correct it.

With experts of score ``s_i`` and exponent ``b_i`` on a path with ``A = alpha'/alpha``, ``G = sigma W/alpha``
(half the squared coefficient of the noising SDE), ``S = sum b_i s_i``, ``B = sum b_i`` and a linear gauge
``h (x - alpha m)``::

    drift   A x + h (x - alpha m) + (G + g^2/2) S
    rate    G (|S|^2 - sum b_i |s_i|^2) + h (d + <x - alpha m, S>) - (B - 1) A d + sum b_i' log q_i

for any diffusion coefficient g: the rate does not depend on it. Constants are kept, so that weights carry the
normaliser too. To a solver the drift is that of a model with the score ``S + h (x - alpha m)/(G + g^2/2)``.

Reference:
    Skreta et al. (2025), "Feynman-Kac Correctors in Diffusion", arXiv:2503.02819, without the gauge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale import interpolants
from itscale.models.algebra import Product
from itscale.process.density import inner, square
from itscale.process.evaluation import Evaluation
from itscale.process.experts import ExpertsEvaluation, ExpertsProcess
from itscale.types import State, Time, expand_over_event


@dataclass(frozen=True)
class ComposedEvaluation(ExpertsEvaluation):
    """Evaluations of all experts, combined by the exponents of their product.

    Attributes:
        fitted: the gauge of every row where it was fitted to the particles; None takes that of the terms.
    """

    fitted: Float64[Tensor, " rows"] | None = None

    @cached_property
    def terms(self) -> _Terms:
        return self.process.terms_at(self.t)

    @cached_property
    def combined(self) -> Tensor:
        """``sum_i b_i s_i``."""
        return self.weighted([part.score for part in self.parts], self.terms.powers)

    @cached_property
    def score(self) -> Tensor:
        """The score that makes a solver follow the drift, gauge included."""
        terms = self.terms
        if not terms.is_gauged:
            return self.combined
        centred, pull = self._centred, self.gauge / _on(terms.spread, self.x)
        return torch.addcmul(self.combined, centred, expand_over_event(pull, centred))

    @cached_property
    def expected(self) -> Tensor:
        """``sum b_i D_i / B``: a mean of the experts' denoised samples, of the data's size at all times.

        The denoised sample that makes a solver follow the drift is far out at the noise end.
        """
        return self.weighted(
            [p.denoised for p in self.parts], [b / self.terms.total for b in self.terms.powers]
        )

    @property
    def gauge(self) -> Time:
        """The gauge h, () or (rows,)."""
        return _on(self.terms.h, self.x) if self.fitted is None else self.fitted

    @cached_property
    def _centred(self) -> Tensor:
        mean = self.process.moments[0]
        return self.x if mean == 0 else self.x - expand_over_event(self.coefficients.alpha * mean, self.x)

    def rate(self) -> Float64[Tensor, " rows"]:
        """Growth of the log-weight per unit of time, where the rows live."""
        if not self.terms.is_gauged:
            return self.rate_without_gauge
        return self.rate_without_gauge + self.gauge * self.virial

    @cached_property
    def virial(self) -> Float64[Tensor, " rows"]:
        """``d + <x - alpha m, S>``: its mean under the product is zero, so it may be added at any pace."""
        return self.x[0].numel() + inner(self._centred, self.combined)

    @cached_property
    def rate_without_gauge(self) -> Float64[Tensor, " rows"]:
        """What the published drift leaves to the weights."""
        terms = self.terms
        d = self.x[0].numel()
        disagreement = square(self.combined)
        for part, power in zip(self.parts, terms.powers, strict=True):
            disagreement = disagreement - _on(power, disagreement) * square(part.score)
        rate = _on(terms.G, disagreement) * disagreement
        rate = rate - _on((terms.total - 1) * terms.A * d, rate)
        for i, (term, growth) in enumerate(zip(self.process.product.terms, terms.growth, strict=True)):
            if callable(term.exponent):
                rate = rate + _on(growth, rate) * self._log_density(i, term.model)
        return rate

    def _log_density(self, index: int, model: Any) -> Float64[Tensor, " rows"]:
        """Log-density of an expert: followed along the run, or asked for."""
        if self.memo is not None:
            return self.memo[:, index]
        return self.process.log_density(model, self.x, self.t)


@dataclass(frozen=True)
class _Terms:
    """Numbers of the drift at one time (), or (rows,) where rows differ; exponents are those of ``t``."""

    A: Time
    G: Time
    h: Time
    spread: Time  # G + g^2/2
    powers: list[Any]
    growth: list[Any]
    total: Any
    is_gauged: bool


@dataclass(frozen=True)
class ComposedProcess(ExpertsProcess):
    """The process of a ``Product``: experts are asked together, weights have a rate."""

    moments: tuple[float, float] = field(default=(0.0, 1.0), init=False)
    has_rates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.product.check()
        object.__setattr__(self, "moments", self.product.moments)

    @property
    def product(self) -> Product:
        assert isinstance(self.model, Product)
        return self.model

    @property
    def rate_share(self) -> float:
        return 0.5 if self.product.weights == "trapezoid" else 1.0

    @property
    def is_exact(self) -> bool:
        return self.product.weights == "kernel"

    @property
    def is_fitted(self) -> bool:
        return self.product.gauge == "adaptive"

    @property
    def start_law(self) -> tuple[float, float]:
        """Mean and standard deviation, per coordinate, of what a run starts from."""
        mean, variance = self.moments
        alpha, sigma = (
            float(self.interpolant.alpha(self.t_start)),
            float(self.interpolant.sigma(self.t_start)),
        )
        total = sigma**2 + alpha**2 * variance
        return alpha * mean, math.sqrt(total / self.product.power(self.t_start))

    @property
    def log_start(self) -> float:
        """Log of the normaliser of ``prod_i q_i^b_i`` at the start, where every expert is normal."""
        d = math.prod(self.product.event_shape)
        power = self.product.power(self.t_start)
        variance = self.start_law[1] ** 2 * power
        return d / 2 * ((1 - power) * math.log(2 * math.pi * variance) - math.log(power))

    def begin(self, unit: State, t: float) -> State:
        mean, std = self.start_law
        return unit * std + mean

    def evaluation(self, x: State, t: Time, raw: Tensor, memo: Tensor | None = None) -> ComposedEvaluation:
        return ComposedEvaluation(
            x, t, "noise", raw, self.interpolant, self.parts(x, t, raw), process=self, memo=memo
        )

    def terms_at(self, t: Time) -> _Terms:
        """Numbers of the drift at a time; those of one time for all rows are remembered."""
        if t.ndim:
            return self._found_terms(t)
        known = self._known
        if float(t) not in known:
            known[float(t)] = self._found_terms(t)
        return known[float(t)]

    @cached_property
    def _known(self) -> dict[float, _Terms]:
        return {}

    def _found_terms(self, t: Time) -> _Terms:
        c = interpolants.coefficients(self.interpolant, t)
        A, G = c.d_alpha / c.alpha, c.sigma * c.wronskian / c.alpha
        powers, growth = self._exponents(t)
        total = sum(powers)
        _, variance = self.moments
        excess = total - 1
        gauge = self.product.gauge
        if gauge in ("gaussian", "adaptive"):
            h = excess * G / (c.sigma**2 + c.alpha**2 * variance)
        elif gauge == "velocity-sum":
            h = excess * A
        else:
            h = torch.zeros_like(A)
        is_gauged = gauge != "none" and bool((torch.as_tensor(excess) != 0).any())
        return _Terms(A, G, h, G + self._half_squared(t), powers, growth, total, is_gauged)

    def log_prob(self, x: State, t: Time) -> Float64[Tensor, " rows"]:
        """``sum_i b_i log q_i`` at a time ()."""
        at = float(t)
        terms = self.product.terms
        return torch.stack([term.at(at) * self.log_density(term.model, x, t) for term in terms]).sum(0)

    def log_ratio_at_start(self, x: State) -> Float64[Tensor, " rows"]:
        """Log of the product's density over that of the normal law that a run starts from."""
        mean, std = self.start_law
        d = x[0].numel()
        normal = -square(x - mean) / (2 * std**2) - d / 2 * math.log(2 * math.pi * std**2)
        return self.log_prob(x, torch.tensor(self.t_start, dtype=torch.float64)) - normal - self.log_start

    def leave(self, here: Evaluation, z: Tensor, std: float) -> Float64[Tensor, " rows"]:
        """What a Gaussian move by the noise ``z`` takes off the log-weight: density and transition there."""
        d = z[0].numel()
        return square(z) / 2 + d * math.log(std) - self.log_prob(here.x, here.t)

    def arrive(self, here: ComposedEvaluation, origin: State, t0: float) -> Float64[Tensor, " rows"]:
        """What it adds once its end is seen: density there, and that of an Euler step back to ``origin``.

        Any Gaussian step back is right; this one is the reverse of an Euler step for small steps.
        """
        terms, step = here.terms, float(here.t) - t0
        variance = self.g(t0) ** 2 * step
        drift = here.x * float(terms.A) + here.combined * float(2 * terms.G - terms.spread)
        if terms.is_gauged:
            drift = drift + here._centred * float(terms.h)
        off = origin - (here.x - drift * step)
        d = here.x[0].numel()
        return self.log_prob(here.x, here.t) - square(off) / (2 * variance) - d / 2 * math.log(variance)

    def _half_squared(self, t: Time) -> Time:
        if t.ndim == 0:
            return torch.tensor(self.g(float(t)) ** 2 / 2, dtype=torch.float64)
        known = {k: self.g(k) ** 2 / 2 for k in set(t.tolist())}
        return torch.tensor([known[k] for k in t.tolist()], dtype=torch.float64)

    def _exponents(self, t: Time) -> tuple[list[Any], list[Any]]:
        """Exponents and their derivatives: numbers, or (rows,) where they change and times differ."""
        if t.ndim == 0:
            at = float(t)
            return [term.at(at) for term in self.product.terms], [
                term.rate(at) for term in self.product.terms
            ]
        powers, growth = [], []
        for term in self.product.terms:
            if callable(term.exponent):
                powers.append(torch.tensor([term.at(k) for k in t.tolist()], dtype=torch.float64))
                growth.append(torch.tensor([term.rate(k) for k in t.tolist()], dtype=torch.float64))
            else:
                powers.append(term.at(0.0))
                growth.append(0.0)
        return powers, growth


def _on(value: Any, like: Tensor) -> Any:
    return value.to(like.device) if isinstance(value, Tensor) else value
