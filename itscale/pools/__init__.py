"""Where rows are computed. A pool owns the rows and knows nothing of models, solvers or methods."""

from itscale.pools.base import OpenPool, Pool
from itscale.pools.local import Local

__all__ = ["Local", "OpenPool", "Pool"]
