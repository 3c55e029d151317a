"""DNO: gradient ascent on all noises of a stochastic sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from itscale.ascent import BlockStatistics
from itscale.errors import ConfigError
from itscale.methods.base import Needs
from itscale.methods.noise_ascent import NoiseAscent
from itscale.process import ContinuousProcess


@dataclass(frozen=True, kw_only=True)
class DNO(NoiseAscent):
    """N chains that climb the reward of the SDE's sample by the initial noise and those of all steps.

    The objective is ``tilt r(sample(z)) + weight R(z)``, where R sums logarithms of bounds on how probable
    the mean and the covariance of the noise's blocks are, over permutations: nothing for a typical noise.

    Cost: as ``ReNO``. It is a search: no target.

    Attributes:
        block: numbers in a block.
        permutations: of all numbers of the noise, for each gradient; and those of ``NoiseAscent``.

    Reference:
        Tang et al. (2024), "Inference-Time Alignment of Diffusion Models with Direct Noise Optimization",
        arXiv:2405.18881. Rate and clip are ours.
    """

    rate: float = 0.1
    clip: float | None = 1.0
    weight: float = 1.0
    block: int = 2
    permutations: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.penalty

    @property
    def penalty(self) -> BlockStatistics:
        return BlockStatistics(self.block, self.permutations)

    @property
    def needs(self) -> Needs:
        return replace(super().needs, noise=True)

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError for noise that is not normal, or too little of it."""
        super().check(process, times)
        numbers = math.prod(process.model.event_shape)
        if self.block > numbers:
            raise ConfigError(f"block must be at most the {numbers} numbers of a state, got {self.block}")
