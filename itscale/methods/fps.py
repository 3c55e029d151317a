"""Filtering by one noisy path of the observation: FPS."""

from __future__ import annotations

from dataclasses import dataclass

from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.methods.restored import Restored, check_share, levels_of
from itscale.solvers.noisy_path import NoisyPathStep


@dataclass(frozen=True, kw_only=True)
class FPS(Restored):
    """Filtering by a noisy path of the observation, one particle a chain.

    Moves are DDIM steps with ``eta`` for state and observation alike, whatever the run's solver. More
    particles with weights would make it worse: the noise of the path is one and the same at all levels, and
    weights would count the likelihood at each of them. In the limit the variance of its samples is then a
    tenth of the posterior's and their mean goes to the measurement, which is why no such filter is offered.

    Cost: N T NFE and N reward calls.

    Attributes:
        eta: share of fresh noise, > 0.

    Reference:
        Dou and Song (2024), "Diffusion Posterior Sampling for Linear Inverse Problem Solving: A Filtering
        Perspective".
    """

    eta: float = 0.85

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("eta", self.eta)
        if self.eta == 0:
            raise ConfigError("eta must be > 0: without fresh noise no move can take up the measurement")

    def kernel(self, engine: Engine) -> NoisyPathStep:
        return NoisyPathStep(**levels_of(engine), eta=self.eta)
