"""What expressions over experts have in common: they read as one model, and are asked through a process."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.interpolants import Interpolant
from itscale.types import State, Time

DENSITIES = ("ito", "exact")
DIVERGENCES = ("exact", "hutchinson")


class Composition(ABC):
    """An expression over experts, without a network of its own.

    Attributes:
        reward, tilt: of the tilt; ``sample`` takes them over.
        density: how the experts' log-densities are followed along a run, ``"ito"`` or ``"exact"``; None does
            not.
        divergence: of the experts' scores, which only ``density="ito"`` can use; None needs none.
    """

    reward: Any
    tilt: float
    density: Any
    divergence: Any

    @property
    @abstractmethod
    def experts(self) -> tuple[Any, ...]:
        """The models that are asked."""
        ...

    def check_density(self) -> None:
        """Raise unless the settings of the density estimate fit together.

        Raises:
            ConfigError: naming the setting, or the expert whose density is not known.
        """
        if self.density is not None and self.density not in DENSITIES:
            raise ConfigError(f"density must be one of {', '.join(DENSITIES)}, got {self.density!r}")
        if self.divergence is not None and self.divergence not in DIVERGENCES:
            raise ConfigError(f"divergence must be 'exact', 'hutchinson' or None, got {self.divergence!r}")
        if self.divergence is not None and self.density != "ito":
            raise ConfigError(
                f"divergence={self.divergence!r} belongs to density='ito', and density is {self.density!r}"
            )
        for model in self.experts:
            if self.density == "exact" and not hasattr(model, "marginal_log_prob"):
                raise ConfigError(
                    "density='exact' needs the density of every expert at every time, and "
                    f"{name_of(model)} has none (marginal_log_prob); use density='ito'"
                )

    @property
    def interpolant(self) -> Interpolant:
        """The path of the first expert; the others are converted to it."""
        return self.experts[0].interpolant

    @property
    def predicts(self) -> Literal["noise"]:
        return "noise"

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.experts[0].event_shape

    @property
    def tokens(self) -> Any:
        """The vocabulary of masked experts; None for others."""
        return getattr(self.experts[0], "tokens", None)

    @property
    def modality(self) -> str:
        return self.experts[0].modality

    @property
    def dtype(self) -> torch.dtype:
        return getattr(self.experts[0], "dtype", torch.float32)

    @property
    def rows_per_look(self) -> int:
        """Network rows of a look; a backward pass counts for two."""
        passes = {None: 0, "hutchinson": 1, "exact": math.prod(self.event_shape)}[self.divergence]
        return sum(model.rows_per_look for model in self.experts) * (1 + 2 * passes)

    def encode(self, conditions: Sequence[Any]) -> None:
        """Accept groups without a condition: conditions belong to the experts.

        Raises:
            ConfigError: for any condition.
        """
        for condition in conditions:
            if condition is not None:
                raise ConfigError(
                    f"condition {condition!r} was given to a composition; bind it to an expert instead: "
                    f"model.given({condition!r})"
                )

    def predict(self, x: State, t: Time, condition: Tensor | None) -> State:
        """Refuse: a composition has experts, and the process asks them."""
        raise ConfigError("a composition predicts nothing by itself; pass it to itscale.sample")

    def decode(self, x: State) -> Tensor:
        return self.experts[0].decode(x)

    def tilted(self, reward: Any, tilt: float = 1.0) -> Any:
        """The same law times ``exp(tilt r(x))``."""
        if self.reward is not None:
            raise ConfigError("the expression has a reward already; add them: tilted(first + second)")
        return replace(self, reward=reward, tilt=tilt)  # type: ignore[type-var]


def check_experts(models: Sequence[Any]) -> None:
    """Raise unless all are models of one space.

    Raises:
        ConfigError: naming two experts and what they differ in.
    """
    first = models[0]
    for model in models:
        if isinstance(model, Composition):
            raise ConfigError(f"an expert must be a model, got the composition {model}; compose models only")
        for what in ("event_shape", "modality", "latent_space", "tokens"):
            one, other = getattr(first, what, None), getattr(model, what, None)
            if one != other:
                raise ConfigError(
                    f"experts must live in one space: {name_of(first)} has {what} {one!r} and "
                    f"{name_of(model)} has {other!r}"
                )


def moments_of(models: Sequence[Any]) -> tuple[float, float]:
    """Mean and variance of the data per coordinate, over models that know theirs; 0 and 1 if none does."""
    found = [m for m in (getattr(model, "data_moments", None) for model in models) if m]
    if not found:
        return 0.0, 1.0
    mean = sum(m for m, _ in found) / len(found)
    return mean, sum(v + m**2 for m, v in found) / len(found) - mean**2


def identity(model: Any) -> Any:
    """Equal for the same expert: the same network under the same condition and guidance."""
    inner = getattr(model, "model", None)
    if inner is not None and hasattr(model, "guidance"):
        return (id(inner), repr(model.condition), model.guidance)
    return (id(model), repr(None), 1.0)


def name_of(model: Any) -> str:
    """A short name: the class, and the condition that is bound."""
    inner = getattr(model, "model", None)
    if inner is None or not hasattr(model, "guidance"):
        return getattr(model, "name", None) or type(model).__name__
    guidance = "" if model.guidance == 1 else f", guidance={model.guidance:g}"
    return f"{name_of(inner)}.given({model.condition!r}{guidance})"
