"""Classifier-free guidance beyond its weight: rescaled, projected, or given for some noise levels only."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import torch
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.interpolants import Coefficients
from itscale.types import State, expand_over_event


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """A guidance weight, and what else is done with the difference that it multiplies.

    Takes the place of a number wherever ``guidance`` is one. Where several are set, the difference is limited
    and projected first, then the guided output is rescaled.

    Attributes:
        weight: 0 unconditional, 1 conditional, above 1 guided.
        interval: noise-to-signal ratios (low, high): guidance is given where low < sigma/alpha <= high, and
            elsewhere the conditional model is asked alone, which costs half. Either may be None.
        rescale: in [0, 1], how much of the guided output is brought to the standard deviation of the
            conditional one, sample by sample; the paper takes 0.7.
        parallel: how much of the difference's part along the conditional denoised sample is kept; the paper
            takes 0, which keeps colours from saturating at large weights.
        norm: longest difference of denoised samples, beyond which it is shortened; None never.
        split: ask for the two outputs in two calls, each of half the rows.

    Reference:
        ``interval``: Kynkäänniemi et al. (2024), "Applying Guidance in a Limited Interval Improves Sample and
        Distribution Quality in Diffusion Models", arXiv:2404.07724. ``rescale``: Lin et al. (2023), "Common
        Diffusion Noise Schedules and Sample Steps are Flawed", arXiv:2305.08891, section 3.4.
        ``parallel`` and ``norm``: Sadat, Hilliges and Weber (2024), "Eliminating Oversaturation and Artifacts
        of High Guidance Scales in Diffusion Models", arXiv:2410.02416; without their momentum, by which a
        look would depend on the ones before it.
    """

    weight: float
    interval: tuple[float | None, float | None] | None = None
    rescale: float = 0.0
    parallel: float = 1.0
    norm: float | None = None
    split: bool = False

    def __post_init__(self) -> None:
        check_weight(self.weight)
        if self.interval is not None:
            object.__setattr__(self, "interval", tuple(self.interval))
            _check_interval(self.interval)
        for name, value, most in (("rescale", self.rescale, 1.0), ("parallel", self.parallel, math.inf)):
            if not _is_number(value) or not 0 <= value <= most:
                bounds = "between 0 and 1" if most == 1 else ">= 0"
                raise ConfigError(f"guidance.{name} must be a number {bounds}, got {value!r}")
        if self.norm is not None and (not _is_number(self.norm) or not self.norm > 0):
            raise ConfigError(f"guidance.norm must be a number > 0 or None, got {self.norm!r}")
        if self.weight == 0 and not self.is_plain:
            raise ConfigError(
                "guidance.weight is 0, which asks the unconditional model alone: leave rescale, parallel and "
                "norm out, or raise the weight"
            )

    @property
    def is_plain(self) -> bool:
        """Whether outputs are combined by the weight alone."""
        return self.rescale == 0 and self.parallel == 1 and self.norm is None

    def is_given(self, kappa: Tensor) -> Tensor:
        """Whether guidance is given at noise-to-signal ratios, () or (rows,)."""
        low, high = self.interval or (None, None)
        given = torch.ones_like(kappa, dtype=torch.bool)
        if low is not None:
            given &= kappa > low
        return given if high is None else given & (kappa <= high)

    def combined(self, without: State, conditional: State, x: State, kind: Any, c: Coefficients) -> State:
        """The guided output of the unconditional and the conditional one, at coefficients () or (rows,)."""
        if self.parallel == 1 and self.norm is None:
            guided = without + self.weight * (conditional - without)
        else:
            guided = self._projected(without, conditional, x, kind, c)
        if not self.rescale:
            return guided
        axes = tuple(range(1, x.ndim))
        ratio = conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
        return guided * (self.rescale * ratio + (1 - self.rescale))

    def _projected(self, without: State, conditional: State, x: State, kind: Any, c: Coefficients) -> State:
        """The guided output where the difference of denoised samples is limited and projected."""
        axes = tuple(range(1, x.ndim))
        d, d_without = (interpolants.denoised(kind, raw, x, c) for raw in (conditional, without))
        difference = d - d_without
        if self.norm is not None:
            length = torch.linalg.vector_norm(difference, dim=axes, keepdim=True)
            difference = difference * (self.norm / length).clamp(max=1)
        share = (difference * d).sum(axes, keepdim=True) / d.square().sum(axes, keepdim=True)
        guided = d + (self.weight - 1) * (difference - (1 - self.parallel) * share * d)
        noise = (x - expand_over_event(c.alpha, x) * guided) / expand_over_event(c.sigma, x)
        return interpolants.raw_from(kind, guided, noise, c)

    @classmethod
    def read(cls, value: Any, path: str = "guidance") -> GuidanceLike:
        """Read a number, or a mapping of the attributes.

        Raises:
            ConfigError: for anything else, naming the path.
        """
        if isinstance(value, Guidance):
            return value
        if _is_number(value):
            return float(value)
        known = [f.name for f in fields(cls)]
        if not isinstance(value, dict) or "weight" not in value or not set(value) <= set(known):
            raise ConfigError(
                f"{path} is {value!r}: it should be a number, or a mapping of weight and, as wanted, "
                f"{', '.join(known[1:])}"
            )
        try:
            return cls(**value)
        except ConfigError as error:
            raise type(error)(str(error).replace("guidance.", f"{path}.", 1)) from error

    def __format__(self, how: str) -> str:
        return repr(self)


GuidanceLike: TypeAlias = float | Guidance


def weight_of(guidance: GuidanceLike) -> float:
    """The weight of guidance."""
    return guidance.weight if isinstance(guidance, Guidance) else guidance


def told(guidance: GuidanceLike) -> float:
    """The weight that a network is told which was distilled to take one.

    Raises:
        ConfigError: for a ``Guidance`` that asks for more: there is no difference to work on.
    """
    if isinstance(guidance, Guidance) and not (guidance.is_plain and guidance.interval is None):
        raise ConfigError(
            f"{guidance!r} works on the difference of two outputs, and this network is told its weight and "
            "gives one; give a number, or with FLUX true_guidance=True"
        )
    return float(weight_of(guidance))


def check_weight(weight: Any) -> None:
    """Raise unless a weight is a finite number >= 0."""
    if not _is_number(weight) or not math.isfinite(weight) or weight < 0:
        raise ConfigError(
            f"guidance must be a finite number >= 0 (0 unconditional, 1 conditional), got {weight!r}"
        )


def _check_interval(interval: Any) -> None:
    low, high = interval if len(interval) == 2 else (math.nan, math.nan)
    if any(bound is not None and (not _is_number(bound) or not bound >= 0) for bound in (low, high)) or (
        low is not None and high is not None and not low < high
    ):
        raise ConfigError(
            f"guidance.interval must be two noise-to-signal ratios (low, high), low < high, got {interval!r}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
