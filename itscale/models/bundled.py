"""Models that ship inside the package; their cards lie in ``networks/cards``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.interpolants import Interpolant, Linear
from itscale.models.base import Given, Model
from itscale.models.likelihood import log_prob
from itscale.networks.shipped import with_weights
from itscale.networks.unet import DigitUNet
from itscale.types import PerRow, State, Time


@dataclass(frozen=True, eq=False)
class DigitFlow:
    """Flow model of handwritten digits, 1 x 28 x 28 in [-1, 1], conditional on the digit.

    Conditions are integers 0 to 9, or ``None`` for any digit.

    Example:
        >>> model = load_digits()
        >>> condition = model.encode([7, None])
        >>> x = torch.zeros(2, *model.event_shape)
        >>> model.predict(x, torch.tensor(0.5, dtype=torch.float64), condition).shape
        torch.Size([2, 1, 28, 28])
    """

    network: DigitUNet

    predicts: Literal["velocity"] = "velocity"
    event_shape: tuple[int, ...] = (1, 28, 28)
    modality: str = "image"
    rows_per_look: int = 1
    interpolant: Interpolant = field(default_factory=Linear)

    def encode(self, conditions: Sequence[Any]) -> Tensor:
        """Return the labels, ``(g,)`` int64; ``None`` becomes the label for any digit.

        Raises:
            ConfigError: for anything but integers 0 to 9 and ``None``.
        """
        return torch.tensor([self._label(condition) for condition in conditions], dtype=torch.int64)

    def predict(self, x: State, t: Time, condition: Tensor | None) -> State:
        """Return the velocity; without ``condition`` every row is unconditional."""
        weight = self.network.head.weight
        if condition is None:
            condition = torch.full((len(x),), self.network.NO_CLASS, device=x.device)
        raw = self.network(x.to(weight.dtype), t.to(x.device, weight.dtype), condition.to(x.device))
        return raw.to(x.dtype)

    def decode(self, x: State) -> Tensor:
        """Return images in [0, 1]."""
        return ((x + 1) / 2).clamp(0, 1)

    def given(self, condition: Any, guidance: float = 1.0) -> Given:
        return Given(self, condition, guidance)

    def log_prob(self, x: State, condition: Any = None, **options: Any) -> PerRow:
        """Log-density of states by the ODE; options, cost and error as in ``models.log_prob``."""
        return log_prob(self, x, condition, **options).values

    def to(self, device: torch.device | str) -> DigitFlow:
        self.network.to(device)
        return self

    def _label(self, condition: Any) -> int:
        if condition is None:
            return self.network.NO_CLASS
        if isinstance(condition, Tensor) and condition.ndim == 0 and not condition.is_floating_point():
            condition = condition.item()
        whole = isinstance(condition, Integral) and not isinstance(condition, bool)
        if not whole or not 0 <= int(condition) < self.network.CLASSES:
            raise ConfigError(
                f"condition {condition!r} is no digit; 'digits' takes an integer 0 to 9, or None for any"
            )
        return int(condition)


class Bundled(NamedTuple):
    """A bundled model: how to load it, and what it is in one line."""

    load: Callable[[], Model]
    description: str


def load_digits() -> DigitFlow:
    """Load the bundled flow model of handwritten digits, on the CPU in float32."""
    return DigitFlow(with_weights(DigitUNet(), "digits"))


BUNDLED: dict[str, Bundled] = {
    "digits": Bundled(load_digits, "handwritten digits, 1 x 28 x 28, conditional flow (MNIST)"),
}
