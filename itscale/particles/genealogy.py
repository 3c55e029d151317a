"""Who descends from whom: ancestors per step, and paths traced back through them.

Ancestors are stored, histories are not copied: 4 bytes per particle and step, nothing where nobody was
resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int, Int32, Int64, Shaped
from torch import Tensor

from itscale.errors import ConfigError


@dataclass(frozen=True)
class Genealogy:
    """The ancestors of every generation, from generation 0 (before any step) to the present.

    Args:
        groups, particles: sizes ``g`` and ``n`` of generation 0.
        steps: one entry per step; ``(g, n_next)`` int32 slots of the parents in the generation before, or
            None where every slot kept its particle.

    Example:
        >>> line = Genealogy(1, 3).record(torch.tensor([[0, 0, 2]])).record(None)
        >>> line.trace(torch.tensor([[1]])).tolist()
        [[[0, 1, 1]]]
    """

    groups: int
    particles: int
    steps: tuple[Int32[Tensor, "_ _"] | None, ...] = field(default=())

    @property
    def size(self) -> int:
        """Number of particles per group in the present generation."""
        return next((a.shape[-1] for a in reversed(self.steps) if a is not None), self.particles)

    def record(self, ancestors: Int[Tensor, "g m"] | None) -> Genealogy:
        """Return the genealogy with one more generation; None if nothing was resampled or selected.

        Raises:
            ConfigError: if ``ancestors`` has another number of groups.
        """
        if ancestors is not None:
            if ancestors.ndim != 2 or ancestors.shape[0] != self.groups:
                raise ConfigError(
                    f"ancestors of shape {tuple(ancestors.shape)} for {self.groups} groups: "
                    f"expected ({self.groups}, m)"
                )
            ancestors = ancestors.to(torch.int32)
        return Genealogy(self.groups, self.particles, (*self.steps, ancestors))

    def trace(self, index: Int[Tensor, "g l"] | None = None) -> Int64[Tensor, "g l generations"]:
        """Return the slots that the lines of present particles passed through, oldest first.

        Args:
            index: present slots; all of them if not given.
        """
        if index is None:
            index = torch.arange(self.size, device=self._device).expand(self.groups, -1)
        line = [index.to(torch.int64)]
        for ancestors in reversed(self.steps):
            line.append(line[-1] if ancestors is None else _gather(ancestors, line[-1]))
        return torch.stack(line[::-1], -1)

    def paths(
        self, history: Sequence[Shaped[Tensor, "g _ *event"]], index: Int[Tensor, "g l"] | None = None
    ) -> Shaped[Tensor, "g l generations *event"]:
        """Return the states along the lines of present particles.

        Args:
            history: the states of every generation, in the slots they had; ``len(steps) + 1`` entries.
            index: present slots; all of them if not given.

        Raises:
            ConfigError: if ``history`` has another length.
        """
        if len(history) != len(self.steps) + 1:
            raise ConfigError(
                f"history has {len(history)} generations, the genealogy {len(self.steps) + 1}; "
                "give the states before the first step and after each one"
            )
        slots = self.trace(index)
        group = torch.arange(self.groups, device=slots.device)[:, None]
        return torch.stack([x[group, slots[..., k]] for k, x in enumerate(history)], 2)

    def eves(self) -> Int64[Tensor, "g n"]:
        """Return the slot in generation 0 from which each present particle descends."""
        return self.trace()[..., 0]

    def n_lineages(self, k: int) -> Int64[Tensor, " g"]:
        """Return how many particles of generation ``k`` have descendants in the present one."""
        n = Genealogy(self.groups, self.particles, self.steps[: k % (len(self.steps) + 1)]).size
        slots = self.trace()[..., k]
        seen = torch.zeros(self.groups, n, dtype=torch.int64, device=slots.device)
        return seen.scatter_(-1, slots, 1).sum(-1)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return plain arrays for saving (copies to the host).

        ``sizes (k+1,)`` per generation; ``resampled (k, g)`` flags; ``ancestors``, the rows that are not
        the identity, end to end.
        """
        sizes, flags, rows = [self.particles], [], []
        for step in self.steps:
            if step is None:
                sizes.append(sizes[-1])
                flags.append(np.zeros(self.groups, dtype=bool))
                continue
            a = step.cpu().numpy()
            same = a.shape[1] == sizes[-1]
            moved = (a != np.arange(a.shape[1])).any(1) if same else np.ones(self.groups, dtype=bool)
            rows.append(a[moved].ravel())
            flags.append(moved)
            sizes.append(a.shape[1])
        return {
            "sizes": np.array(sizes, dtype=np.int64),
            "resampled": np.array(flags, dtype=bool).reshape(len(flags), self.groups),
            "ancestors": np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Genealogy:
        """Rebuild what ``to_arrays`` saved, on the CPU."""
        sizes, flags, flat = arrays["sizes"], arrays["resampled"], arrays["ancestors"]
        steps: list[Tensor | None] = []
        used = 0
        for n, moved in zip(sizes[1:].tolist(), flags, strict=True):
            if not moved.any():
                steps.append(None)
                continue
            a = np.tile(np.arange(n, dtype=np.int32), (len(moved), 1))
            a[moved] = flat[used : used + n * int(moved.sum())].reshape(-1, n)
            used += n * int(moved.sum())
            steps.append(torch.from_numpy(a))
        return cls(flags.shape[1], int(sizes[0]), tuple(steps))

    @property
    def _device(self) -> torch.device:
        return next((a.device for a in self.steps if a is not None), torch.device("cpu"))


def _gather(ancestors: Tensor, index: Tensor) -> Tensor:
    return ancestors.gather(-1, index).to(torch.int64)
