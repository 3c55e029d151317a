"""The rules by which rewards combine: small functions of the operands' values ``[m]``, sample by sample."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.scoring.spec import RewardSpec

Interval = tuple[float | None, float | None]


class Rule(Protocol):
    """A differentiable function of one or more values, with a readable form."""

    def __call__(self, *values: Tensor) -> Tensor: ...
    def text(self, *names: str) -> str: ...


@dataclass(frozen=True)
class Linear:
    """``sum_i weights[i] * r_i + shift``."""

    weights: tuple[float, ...]
    shift: float = 0.0

    def __call__(self, *values: Tensor) -> Tensor:
        terms = [_times(w, v) for w, v in zip(self.weights, values, strict=True) if w != 0]
        total = sum(terms[1:], terms[0]) if terms else torch.zeros_like(values[0])
        return total + self.shift if self.shift else total

    def text(self, *names: str) -> str:
        text = ""
        for weight, name in zip(self.weights, names, strict=True):
            term = _bracket(name) if abs(weight) == 1 else f"{abs(weight):g} * {_bracket(name)}"
            if weight == 1 and not text:
                term = name
            text += (" - " if text else "-") + term if weight < 0 else (" + " if text else "") + term
        if self.shift:
            text += f" {'-' if self.shift < 0 else '+'} {abs(self.shift):g}"
        return text


@dataclass(frozen=True)
class Product:
    """``r_1 * r_2``."""

    def __call__(self, *values: Tensor) -> Tensor:
        return values[0] * values[1]

    def text(self, *names: str) -> str:
        return " * ".join(map(_bracket, names))


@dataclass(frozen=True)
class Clip:
    """``r`` held between ``low`` and ``high``; the gradient is zero outside."""

    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ConfigError("clip without bounds changes nothing; give a low or a high one")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ConfigError(f"clip from {self.low} to {self.high} is empty; low must be below high")

    def __call__(self, *values: Tensor) -> Tensor:
        return values[0].clamp(self.low, self.high)

    def text(self, *names: str) -> str:
        return f"clip({names[0]}, {self.low}, {self.high})"


@dataclass(frozen=True)
class Log:
    """``log r``: ``-inf`` at 0, invalid below."""

    def __call__(self, *values: Tensor) -> Tensor:
        return values[0].log()

    def text(self, *names: str) -> str:
        return f"log({names[0]})"


@dataclass(frozen=True)
class Minimum:
    """The smallest of several; the gradient goes to it alone."""

    def __call__(self, *values: Tensor) -> Tensor:
        return torch.stack(values).amin(dim=0)  # over operands

    def text(self, *names: str) -> str:
        return f"minimum({', '.join(names)})"


@dataclass(frozen=True)
class GeometricMean:
    """``prod_k max(r_k, 0)^(w_k / sum w)``: zero as soon as one is."""

    weights: tuple[float, ...]

    def __call__(self, *values: Tensor) -> Tensor:
        total = sum(self.weights)
        factors = [value.clamp(min=0) ** (w / total) for value, w in zip(values, self.weights, strict=True)]
        return torch.stack(factors).prod(dim=0)  # over operands

    def text(self, *names: str) -> str:
        equal = len(set(self.weights)) == 1
        end = "" if equal else f", weights=[{', '.join(f'{w:g}' for w in self.weights)}]"
        return f"geometric_mean({', '.join(names)}{end})"


@dataclass(frozen=True)
class Gate:
    """``r_1`` where ``r_2 > 0``, ``otherwise`` elsewhere."""

    otherwise: float = -math.inf

    def __call__(self, *values: Tensor) -> Tensor:
        return torch.where(values[1] > 0, values[0], self.otherwise)

    def text(self, *names: str) -> str:
        end = "" if self.otherwise == -math.inf else f", otherwise={self.otherwise:g}"
        return f"gate({names[0]}, {names[1]}{end})"


@dataclass(frozen=True)
class Compare:
    """1 where ``r`` compares with ``threshold`` as ``sign`` says, else 0."""

    sign: str
    threshold: float
    SIGNS: ClassVar = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

    def __call__(self, *values: Tensor) -> Tensor:
        return self.SIGNS[self.sign](values[0], self.threshold).to(values[0].dtype)

    def text(self, *names: str) -> str:
        return f"({names[0]} {self.sign} {self.threshold:g})"


def combined_spec(rule: Rule, operands: Sequence[tuple[str, RewardSpec]]) -> RewardSpec:
    """The facts of a composition: needs add up, promises hold only if all operands make them.

    A comparison has no gradient; a gate passes on that of the reward it lets through.
    """
    names, specs = [name for name, _ in operands], [spec for _, spec in operands]
    modalities = {s.modality for s in specs} - {"any"}
    if len(modalities) > 1:
        named = ", ".join(f"{name} ({s.modality})" for name, s in operands)
        raise ConfigError(f"rewards of different modalities cannot be combined: {named}")
    combined = RewardSpec(
        name=rule.text(*names),
        modality=modalities.pop() if modalities else "any",
        differentiable=_is_differentiable(rule, specs),
        deterministic=all(s.deterministic for s in specs),
        needs_prompt=any(s.needs_prompt for s in specs),
        example_shape=next((s.example_shape for s in specs if s.example_shape), None),
        licence=", ".join(dict.fromkeys(s.licence for s in specs if s.licence)),
        version="+".join(s.version for s in specs),
    )
    if isinstance(rule, Clip):
        return replace(combined, range=(rule.low, rule.high))
    if isinstance(rule, Linear):
        return _linear_facts(rule, specs, combined)
    return combined


def _is_differentiable(rule: Rule, specs: Sequence[RewardSpec]) -> bool:
    if isinstance(rule, Compare):
        return False
    if isinstance(rule, Gate):
        return specs[0].differentiable
    return all(spec.differentiable for spec in specs)


def _linear_facts(rule: Linear, specs: Sequence[RewardSpec], combined: RewardSpec) -> RewardSpec:
    bounds: Interval = (rule.shift, rule.shift)
    for weight, spec in zip(rule.weights, specs, strict=True):
        bounds = _add(bounds, _scale(weight, spec.range or (None, None)))
    combined = replace(combined, range=None if bounds == (None, None) else bounds)
    if len(specs) == 1 and rule.weights[0]:
        weight, spec = rule.weights[0], specs[0]
        if spec.typical is not None:
            low, high = sorted(weight * end + rule.shift for end in spec.typical)
            combined = replace(combined, typical=(low, high))
        if spec.scale_hint is not None:
            combined = replace(combined, scale_hint=abs(weight) * spec.scale_hint)
    return combined


def _scale(weight: float, interval: Interval) -> Interval:
    if weight == 0:
        return (0.0, 0.0)
    low, high = (None if end is None else weight * end for end in interval)
    return (low, high) if weight > 0 else (high, low)


def _add(a: Interval, b: Interval) -> Interval:
    low = None if a[0] is None or b[0] is None else a[0] + b[0]
    high = None if a[1] is None or b[1] is None else a[1] + b[1]
    return low, high


def _times(weight: float, value: Tensor) -> Tensor:
    return value if weight == 1 else weight * value


def _bracket(name: str) -> str:
    return f"({name})" if any(sign in name for sign in (" + ", " - ")) or name.startswith("-") else name
