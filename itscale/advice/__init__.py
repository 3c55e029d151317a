"""``advise``: a short pilot that says which method, particles, steps and tilt to use, and why."""

from itscale.advice.advised import Advice
from itscale.advice.entry import advise
from itscale.advice.pilot import Pilot, run_pilot
from itscale.advice.prediction import Prediction, predict

__all__ = ["Advice", "Pilot", "Prediction", "advise", "predict", "run_pilot"]
