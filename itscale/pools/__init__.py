"""Where rows are computed. A pool owns the rows and knows nothing of models, solvers or methods."""

from itscale.pools.base import Held, OpenPool, PerRow, Pool, RowsHandle, Whole
from itscale.pools.local import Local
from itscale.pools.ray_pool import Ray
from itscale.pools.reward_actors import RewardBerth, pooled

__all__ = [
    "Held",
    "Local",
    "OpenPool",
    "PerRow",
    "Pool",
    "Ray",
    "RewardBerth",
    "RowsHandle",
    "Whole",
    "pooled",
]
