"""Superposition: samples of one expert or another, and samples that are equally likely under all of them.

Neither is the product of the experts. Expressions are inert; ``itscale.process`` makes them move.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from itscale.errors import ConfigError
from itscale.models.algebra import Composable
from itscale.models.composition import Composition, check_experts, identity, name_of


class Superposition(Composition, Composable):
    """What mixture and equal density share: at least two experts, each once."""

    models: tuple[Any, ...]
    reward: Any

    @classmethod
    def joined(cls, first: Any, second: Any) -> Any:
        """The superposition of two models, or of one more."""
        models = [*_members(cls, first), *_members(cls, second)]
        return cls(tuple(models))  # type: ignore[call-arg]

    @property
    def experts(self) -> tuple[Any, ...]:
        return self.models

    @property
    def is_law(self) -> bool:
        """Whether samples follow a mixture of the experts' densities."""
        return False

    @property
    @abstractmethod
    def lean(self) -> tuple[float, ...]:
        """Logarithms: of the weights, or of what densities are to differ by from the first."""
        ...

    def check(self) -> None:
        """Raise unless the experts and the estimate of their densities fit together."""
        name = type(self).__name__
        if len(self.models) < 2:
            raise ConfigError(
                f"{name} needs at least two experts, got {len(self.models)}; sample one model as it is"
            )
        check_experts(self.models)
        if len({identity(model) for model in self.models}) < len(self.models):
            raise ConfigError(f"{name} has the same expert twice: {self}; give each once, with a weight")
        self.check_density()

    def given(self, condition: Any, guidance: float = 1.0) -> Any:
        """Refuse: a condition belongs to an expert."""
        raise ConfigError(
            f"condition={condition!r}, guidance={guidance!r} do not fit a superposition; bind both to its "
            "experts: model.given(condition, guidance)"
        )

    def __pow__(self, exponent: Any) -> Any:
        raise ConfigError(f"a superposition has no powers and factors: ({self}) ** {exponent!r}")

    def __mul__(self, other: Any) -> Any:
        raise ConfigError(f"a superposition has no powers and factors: ({self}) * {other!r}")

    __truediv__ = __mul__

    def to(self, device: torch.device | str) -> Any:
        return replace(self, models=tuple(model.to(device) for model in self.models))  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class Mixture(Superposition):
    """The law ``sum_i w_i q_i(x)``: samples of one expert or another; ``compose.mixture``, or ``a | b``.

    Particles follow ``sum_i kappa_i s_i`` with ``kappa = softmax(T log q_i + log w_i)`` at every time. With
    temperature T = 1 that is the score of the mixture; a larger T hands a particle over to the expert that it
    is likeliest under, and is no known law.

    Attributes:
        models: at least two experts of one space.
        weights: positive, one each; None is equal ones.
        temperature: T > 0.
        density: how ``log q_i`` is known: ``"ito"`` estimates it along the run, ``"exact"`` asks the experts.
        divergence: for ``density="ito"`` on the ODE, or with another noise than the natural one.
        reward, tilt: of the tilt; ``sample`` takes them over.

    Raises:
        ConfigError: for fewer than two experts, experts of different spaces, or a weight that is not > 0.

    Reference:
        Skreta et al. (2025), "The Superposition of Diffusion Models Using the Ito Density Estimator",
        arXiv:2412.17762.
    """

    models: tuple[Any, ...]
    weights: tuple[float, ...] | None = None
    temperature: float = 1.0
    density: Literal["ito", "exact"] = "ito"
    divergence: Literal["exact", "hutchinson"] | None = None
    reward: Any = None
    tilt: float = 1.0

    def __post_init__(self) -> None:
        self.check()
        if self.weights is not None:
            if len(self.weights) != len(self.models):
                raise ConfigError(
                    f"weights must have one entry per expert: {len(self.models)} experts and "
                    f"{len(self.weights)} weights"
                )
            if not all(0 < w < math.inf for w in self.weights):
                raise ConfigError(f"weights must be finite and > 0, got {self.weights}; leave out an expert")
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature must be finite and > 0, got {self.temperature!r}")

    @property
    def is_law(self) -> bool:
        return self.temperature == 1

    @property
    def lean(self) -> tuple[float, ...]:
        weights = self.weights or (1.0,) * len(self.models)
        return tuple(math.log(w / sum(weights)) for w in weights)

    def __repr__(self) -> str:
        return " | ".join(name_of(model) for model in self.models)


@dataclass(frozen=True, eq=False)
class EqualDensity(Superposition):
    """Samples as likely under one expert as under any other; ``compose.equal_density``, or ``a & b``.

    Every step moves along ``sum_i kappa_i s_i`` with the kappa, of sum 1, for which the estimates of
    ``log q_i`` come out equal, given the very noise of the step. What is sampled lies on the surface where
    the densities are equal; it is no known law, and it is not the product of the experts, which has a width
    around that surface. Methods run, and claim no target.

    Attributes:
        models: at least two experts of one space.
        bias: what ``log q_i - log q_0`` is to be at the end, for every expert but the first; None is 0.
        clamp: the largest ``|kappa_i - 1/M|`` of a step; None has no limit. Where the experts agree, at the
            noise end, kappa is in the hundreds. What a clamp leaves undone is made up for in later steps.
        divergence: for the ODE, or another noise than the natural one: ``"exact"`` or ``"hutchinson"``.
        reward, tilt: of the tilt; ``sample`` takes them over.

    Raises:
        ConfigError: for fewer than two experts, or experts of different spaces.

    Reference:
        Skreta et al. (2025), "The Superposition of Diffusion Models Using the Ito Density Estimator",
        arXiv:2412.17762.
    """

    models: tuple[Any, ...]
    bias: tuple[float, ...] | None = None
    clamp: float | None = None
    divergence: Literal["exact", "hutchinson"] | None = None
    reward: Any = None
    tilt: float = 1.0
    density: Literal["ito"] = field(default="ito", init=False)

    def __post_init__(self) -> None:
        self.check()
        if self.bias is not None and len(self.bias) != len(self.models) - 1:
            raise ConfigError(
                f"bias must have {len(self.models) - 1} entries, one for every expert but the first, got "
                f"{len(self.bias)}"
            )
        if not all(map(math.isfinite, self.bias or ())):
            raise ConfigError(f"bias must be finite, got {self.bias}")
        if self.clamp is not None and not 0 < self.clamp < math.inf:
            raise ConfigError(f"clamp must be > 0, or None for no limit, got {self.clamp!r}")

    @property
    def lean(self) -> tuple[float, ...]:
        return self.bias or (0.0,) * (len(self.models) - 1)

    def __repr__(self) -> str:
        return " & ".join(name_of(model) for model in self.models)


def _members(kind: type[Superposition], model: Any) -> Sequence[Any]:
    """The experts of a plain superposition of this kind, or the model alone."""
    if not isinstance(model, Composable):
        raise ConfigError(f"experts are joined with models, got {model!r}")
    if not isinstance(model, kind):
        return (model,)
    if repr(_settings(model)) != repr(_settings(kind(model.models))):  # type: ignore[call-arg]
        raise ConfigError(f"join the experts first, then set options: ({model}) has some already")
    return model.models


def _settings(model: Any) -> list[Any]:
    return [value for name, value in vars(model).items() if name != "models"]
