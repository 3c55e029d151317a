"""The engine: verbs for methods, the worker that executes them, the population they act on."""

from itscale.engine.engine import Engine, Final
from itscale.engine.noise_space import NoiseSpace
from itscale.engine.particles import Particles
from itscale.engine.rows import Rows
from itscale.engine.step import Step
from itscale.engine.token_worker import TokenWorker
from itscale.engine.valued import ValuedWorker
from itscale.engine.worker import Worker

__all__ = [
    "Engine",
    "Final",
    "NoiseSpace",
    "Particles",
    "Rows",
    "Step",
    "TokenWorker",
    "ValuedWorker",
    "Worker",
]
