"""A reward for samples that the model seldom makes: how far one is from what the model makes of it again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.base import Model
from itscale.models.conditions import repeated
from itscale.noise import Address, Noise, Purpose
from itscale.operators import affine_of
from itscale.process import ODE, ContinuousProcess
from itscale.scoring import reward

Distance = Callable[[Tensor, Tensor], Tensor]


@reward(name="minority", differentiable=True, doc="distance of a sample to its noised and denoised self")
@dataclass(frozen=True, eq=False)
class Minority:
    """``E d(x, sg D(x + kappa eps))``: high for samples in sparse regions, which denoising pulls back to
    dense ones.

    It is an ordinary reward of any method, differentiable in x; the denoised sample is held fixed. The same
    noise
    serves all samples, so scores do not depend on the batch. It asks the model ``noisings`` times a sample;
    these evaluations are not in a run's ledger. Report a density beside it: what is rare may also be broken.

    Attributes:
        model: whose samples are judged; its decoder must be affine.
        kappa: noise-to-signal ratio of the noising.
        noisings: how many are averaged.
        distance: of samples and denoised ones, both (rows, *event) as decoded, to (rows,); None is the mean
            square over coordinates.
        condition: of the model.
        seed: of the noise.

    Reference:
        Um, Lee and Ye (2024), "Don't Play Favorites: Minority Guidance for Diffusion Models",
        arXiv:2301.12334. There
        a classifier of the score's quantiles is trained; here the score itself is the reward.
    """

    model: Model
    kappa: float = 1.0
    noisings: int = 4
    distance: Distance | None = field(default=None, repr=False)
    condition: Any = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.kappa < math.inf:
            raise ConfigError(f"kappa must be a finite number > 0, got {self.kappa!r}")
        if self.noisings < 1:
            raise ConfigError(f"noisings must be at least 1, got {self.noisings!r}")
        if affine_of(self.model) is None:
            raise ConfigError(
                "minority noises decoded samples again, so the model's decoder must be affine, and this "
                "one is not"
            )

    def __call__(self, samples: Float[Tensor, "rows *event"]) -> Float[Tensor, " rows"]:
        affine = affine_of(self.model)
        assert affine is not None
        scale, shift = affine
        x = (samples.detach() - shift) / scale
        apart = self.distance or _mean_square
        again = [scale * d + shift for d in self._denoised(x)]
        return torch.stack([apart(samples, d) for d in again]).mean(0)

    @torch.no_grad()
    def _denoised(self, x: Tensor) -> list[Tensor]:
        """What the model makes of noised states, one tensor per noising."""
        process = ContinuousProcess.of(self.model.to(x.device), ODE())
        t = process.interpolant.t_of_kappa(torch.tensor(self.kappa, dtype=torch.float64)).double()
        alpha, sigma = float(process.interpolant.alpha(t)), float(process.interpolant.sigma(t))
        zero, draw = torch.zeros(self.noisings, dtype=torch.int64), torch.arange(self.noisings)
        address = Address(zero, zero, zero, draw)
        eps = Noise(self.seed).normal(Purpose.USER, address, tuple(x.shape[1:]), x.dtype).to(x.device)
        encoded = self.model.encode([self.condition])
        given = None if encoded is None else repeated(encoded.to(x.device), len(x))
        return [process.evaluate(alpha * x + sigma * e, t, given).denoised for e in eps]


def _mean_square(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).flatten(1).square().mean(1)
