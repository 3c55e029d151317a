"""``sample``: put model, process, solver, method, reward and budget together and run them."""

from itscale.sampling.calibration import calibrate
from itscale.sampling.entry import sample
from itscale.sampling.pilots import PILOT_PARTICLES, PILOT_SPREAD, profile_looks
from itscale.sampling.shipped import shipped_profile
from itscale.sampling.thermodynamic import tilt_log_z
from itscale.sampling.value_fitting import fit_value

__all__ = [
    "PILOT_PARTICLES",
    "PILOT_SPREAD",
    "calibrate",
    "fit_value",
    "profile_looks",
    "sample",
    "shipped_profile",
    "tilt_log_z",
]
