"""Path potentials: how a value seen on the way becomes a log-weight increment."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Potential(Protocol):
    """An intermediate potential G_k, as a function of the value now and a memory of earlier ones.

    The last factor is not the potential's business: the engine makes it ``tilt * r(x_1)`` minus the sum of
    log G along the particle's own ancestry, so that every potential has the same target.
    """

    @property
    def initial(self) -> float:
        """The memory before anything was seen."""
        ...

    def __call__(self, value: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return log G and the new memory, each (g, n), from the value and the memory."""
        ...
