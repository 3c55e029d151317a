"""The common part of models that change what another one predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from itscale.interpolants import Interpolant
from itscale.models.algebra import Composable
from itscale.models.base import Given, Model
from itscale.models.conditions import Encoding
from itscale.models.guidance import GuidanceLike
from itscale.types import State, Time


@dataclass(frozen=True, eq=False)
class Wrapper(Composable):
    """A model that passes everything on to ``model``; a subclass changes what it has to."""

    model: Model

    @property
    def interpolant(self) -> Interpolant:
        return self.model.interpolant

    @property
    def predicts(self) -> Literal["velocity", "noise", "denoised", "v"]:
        return self.model.predicts

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.model.event_shape

    @property
    def modality(self) -> str:
        return self.model.modality

    @property
    def rows_per_look(self) -> int:
        return self.model.rows_per_look

    @property
    def dtype(self) -> torch.dtype:
        """Of the states."""
        return getattr(self.model, "dtype", torch.float32)

    def encode(self, conditions: Sequence[Any]) -> Encoding | None:
        return self.model.encode(conditions)

    def predict(self, x: State, t: Time, condition: Any) -> State:
        return self.model.predict(x, t, condition)

    def decode(self, x: State) -> Tensor:
        return self.model.decode(x)

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Given:
        return Given(self, condition, guidance)

    def to(self, device: torch.device | str) -> Wrapper:
        return replace(self, model=self.model.to(device))


def trait(model: Any, name: str) -> Any:
    """What a model says of itself under a name, or the first one that it wraps; None if none does."""
    while model is not None:
        if (found := getattr(model, name, None)) is not None:
            return found
        model = getattr(model, "model", None)
    return None


def is_uneven(model: Any) -> bool:
    """Whether looks cost more network rows at some noise levels than at others."""
    return bool(trait(model, "is_uneven"))


def rows_at(model: Any, t: Time) -> int:
    """Network rows of a look at a time ()."""
    given = model
    while given is not None and not getattr(given, "is_uneven", False):
        given = getattr(given, "model", None)
    if given is None:
        return model.rows_per_look
    return model.rows_per_look // given.rows_per_look * given.rows_at(t)


def changes_law(model: Any) -> bool:
    """Whether a model, or one that it wraps, departs from its law on purpose."""
    while model is not None:
        if getattr(model, "changes_law", False):
            return True
        if any(changes_law(expert) for expert in getattr(model, "experts", ())):
            return True
        model = getattr(model, "model", None)
    return False
