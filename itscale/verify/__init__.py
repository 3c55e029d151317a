"""Is this installation right? Every claim against an answer known in closed form."""

from itscale.verify.battery import run_battery
from itscale.verify.check import Check

__all__ = ["Check", "run_battery"]
