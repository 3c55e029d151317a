"""What stands on the driver for rows that lie in shards."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from itscale.errors import PoolError
from itscale.pools.base import RowsHandle
from itscale.pools.shard import Name
from itscale.pools.spreading import Layout

if TYPE_CHECKING:
    from itscale.pools.open_ray import OpenRay


class Known(NamedTuple):
    """What is known of rows once they were made.

    Attributes:
        present: names of the fields that they have.
        size: bytes of one row.
    """

    present: tuple[str, ...]
    size: int


class RayRows(RowsHandle):
    """A handle to rows that lie in shards, or will once anything is asked of them.

    Attributes:
        layout: which shard holds which row.
        is_looked_at: whether the network's output is known of every row as it is.
    """

    def __init__(
        self, pool: OpenRay, name: Name, layout: Layout, known: Known | None, is_looked_at: bool = False
    ) -> None:
        self.pool = pool
        self.name = name
        self.layout = layout
        self._known = known
        self.is_looked_at = is_looked_at
        if known is not None:
            self.is_looked_at = "raw" in known.present and "known" not in known.present
        weakref.finalize(self, pool.dropped.append, name).atexit = False

    def __len__(self) -> int:
        return len(self.layout)

    @property
    def known(self) -> Known:
        """What the shards have told of the rows; what was put off is done first.

        Raises:
            PoolError: if what would have made them went wrong.
        """
        if self._known is None:
            self.pool.flush()
        if self._known is None:
            raise PoolError("these rows were never made: the call that was to make them failed")
        return self._known

    def made(self, known: Known) -> None:
        """Take note of what the shards tell of the rows."""
        self._known = known

    def take(self, index: torch.Tensor) -> RayRows:
        """Gather rows; what can stay in its shard does."""
        return self.pool.take(self, index.numpy())

    def home(self) -> Any:
        """Return the rows themselves, on the host."""
        return self.pool.home(self)

    @property
    def x(self) -> torch.Tensor:
        """States, fetched."""
        return self.home().x

    @property
    def raw(self) -> torch.Tensor | None:
        """Outputs of the network, fetched."""
        return self.home().raw if "raw" in self.known.present else None
