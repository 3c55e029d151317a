"""Optimisation of a point with the model as its regulariser: RED-diff."""

from __future__ import annotations

from dataclasses import dataclass

from itscale.engine import Engine
from itscale.methods.base import check_positive
from itscale.methods.restored import Restored, levels_of
from itscale.solvers.regularised import REDDiffStep


@dataclass(frozen=True, kw_only=True)
class REDDiff(Restored):
    """RED-diff: a point pulled by the measurement and by its own denoised self, while the noise on it falls.

    What it finds is near the most probable point of one mode; its samples vary less than the posterior and
    say nothing of the weights of modes. It takes as many steps of Adam as the run has steps.

    Cost: N T NFE, never backwards, and N reward calls.

    Attributes:
        weight: lambda, how much the model counts.
        rate: of Adam, in units of states.

    Reference:
        Mardani, Song, Kautz and Vahdat (2023), "A Variational Perspective on Solving Inverse Problems with
        Diffusion Models", arXiv:2305.04391.
    """

    weight: float = 0.25
    rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("weight", self.weight)
        check_positive("rate", self.rate)

    @property
    def measures(self) -> str:
        return "smooth"

    def kernel(self, engine: Engine) -> REDDiffStep:
        return REDDiffStep(**levels_of(engine), weight=self.weight, rate=self.rate)
