"""The continuous process: one look at a model, and the ODE and SDEs that share its marginals."""

from itscale.process.composed import ComposedEvaluation, ComposedProcess
from itscale.process.continuous import ODE, SDE, ContinuousProcess
from itscale.process.diffusion import Coefficient, Diffusion, Epsilon, Natural, Renoise, get_diffusion
from itscale.process.evaluation import Evaluation
from itscale.process.experts import ExpertsEvaluation, ExpertsProcess
from itscale.process.masking import Masking
from itscale.process.prior import StudentT
from itscale.process.start import Start
from itscale.process.superposed import SuperposedEvaluation, SuperposedProcess
from itscale.process.tokens import TokenEvaluation, TokenProcess

__all__ = [
    "ODE",
    "SDE",
    "Coefficient",
    "ComposedEvaluation",
    "ComposedProcess",
    "ContinuousProcess",
    "Diffusion",
    "Epsilon",
    "Evaluation",
    "ExpertsEvaluation",
    "ExpertsProcess",
    "Masking",
    "Natural",
    "Renoise",
    "Start",
    "StudentT",
    "SuperposedEvaluation",
    "SuperposedProcess",
    "TokenEvaluation",
    "TokenProcess",
    "get_diffusion",
]
