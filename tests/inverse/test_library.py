"""DPS and DiffPIR against the library's own samplers, on a problem with the same exact denoiser and
levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import itscale
from itscale.methods import DPS, DiffPIR
from itscale.operators import GaussianLikelihood, Mask

SHAPE, MEAN, STD, SIGMA = (1, 6, 6), 0.2, 0.3, 0.1
RUNS = 400


@dataclass(frozen=True)
class Levels:
    """Given noise-to-signal ratios, then the data."""

    kappas: tuple[float, ...]

    def __call__(self, path: Any, steps: int, t_start: float) -> Tensor:
        t = path.t_of_kappa(torch.tensor(self.kappas, dtype=torch.float64)).double()
        return torch.cat([t, torch.ones(1, dtype=torch.float64)])


def denoise(z: Tensor, s: Tensor, mean: float = MEAN, std: float = STD) -> Tensor:
    """Independent pixels N(mean, std^2)."""
    return mean + std**2 / (std**2 + s**2) * (z - mean)


def seen() -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) > 0.4


def same_law(mine: Tensor, theirs: Tensor) -> None:
    """Means and variances over runs, pooled over pixels of a kind, within 5 standard errors."""
    for where in (seen(), ~seen()):
        a, b = mine[:, where], theirs[:, where]
        error = ((a.var(0) + b.var(0)) / RUNS).sqrt()
        assert float(((a.mean(0) - b.mean(0)) / error).abs().max()) < 5
        ratio = float(a.var(0).mean() / b.var(0).mean())
        assert abs(ratio - 1) < 5 * 2 / (RUNS * int(where.sum())) ** 0.5


def pictures() -> Any:
    """The same pixels as pictures in [0, 1], states in [-1, 1]."""

    def predict(x, t):
        t = t.clamp_min(1e-6).reshape(-1, 1, 1, 1)
        return denoise(x / t, (1 - t) / t)

    return itscale.models.wrap(
        predict, predicts="denoised", interpolant="linear", event_shape=SHAPE, modality="image"
    )


def measured() -> tuple[Mask, Tensor, Tensor]:
    """Operator, measurement, and the measurement as a picture with zeros where nothing was seen."""
    operator = Mask(seen())
    truth = MEAN + STD * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2))
    y = operator((truth + 1) / 2)[0]
    full = torch.zeros(SHAPE)
    full[seen()] = y
    return operator, y, full


@pytest.mark.slow
def test_dps_agrees_with_the_library():
    deepinv = pytest.importorskip("deepinv")

    class Exact(deepinv.models.Denoiser):
        def __init__(self):
            super().__init__()

        def forward(self, x, sigma, *args, **kwargs):
            s = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
            return (denoise(2 * x - 1, 2 * s) + 1) / 2

    operator, y, full = measured()
    physics = deepinv.physics.Inpainting(img_size=SHAPE, mask=seen().double())
    steps = 60
    sampler = deepinv.sampling.DPS(
        Exact(), weight=1.0, num_steps=steps + 1, rng=torch.Generator().manual_seed(0)
    )
    theirs = 2 * sampler(full.double().expand(RUNS, *SHAPE).clone(), physics) - 1
    sde = deepinv.sampling.VariancePreservingDiffusion(alpha=1.0, dtype=torch.float64)
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1]
    result = itscale.sample(
        pictures(),
        reward=GaussianLikelihood(operator, y, SIGMA),
        # the library measures residuals of pictures, which are half those of states
        method=DPS(particles=RUNS, zeta=0.5, form="score"),
        steps=steps,
        grid=Levels(tuple(float(sde.sigma_t(t)) for t in times)),
        process=itscale.SDE(),
        solver="ancestral",
    )
    same_law(result.states[0].double(), theirs.double())


@pytest.mark.slow
def test_diffpir_agrees_with_the_library():
    deepinv = pytest.importorskip("deepinv")

    class Exact(torch.nn.Module):
        def forward(self, x, sigma):
            return (denoise(2 * x - 1, 2 * sigma) + 1) / 2

    operator, y, full = measured()
    physics = deepinv.physics.Inpainting(
        img_size=SHAPE, mask=seen().float(), noise_model=deepinv.physics.GaussianNoise(SIGMA)
    )
    sampler = deepinv.sampling.DiffPIR(
        Exact(), deepinv.optim.L2(), sigma=SIGMA, max_iter=40, zeta=0.4, lambda_=6.0
    )
    torch.manual_seed(0)
    theirs = 2 * sampler(full.expand(RUNS, *SHAPE).clone(), physics) - 1
    kappas = tuple(float(sampler.sigmas[i]) for i in sampler.seq)
    result = itscale.sample(
        pictures(),
        reward=GaussianLikelihood(operator, y, SIGMA),
        # the library's proximal step halves lambda
        method=DiffPIR(particles=RUNS, weight=6.0 / 2, zeta=0.4),
        steps=len(kappas),
        grid=Levels(kappas),
        process=itscale.SDE(),
        solver="ancestral",
    )
    same_law(result.states[0].double(), theirs.double())
