"""Climbing in the space of noises: the step of the optimiser, and what keeps the noise probable."""

from itscale.ascent.block_statistics import BlockStatistics
from itscale.ascent.nesterov import Nesterov
from itscale.ascent.norm import Norm
from itscale.ascent.objective import Objective, Penalty

__all__ = ["BlockStatistics", "Nesterov", "Norm", "Objective", "Penalty"]
