"""The parts everything stands on: random numbers, resampling, equal marginals of ODE and SDEs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itscale.models.analytic import GaussianMixture
from itscale.noise import Address, Noise, Purpose, philox
from itscale.particles import SCHEMES, normalise
from itscale.process import SDE, Coefficient
from itscale.sampling import sample
from itscale.verify.check import Check, judge

# Counter, key and words of Philox4x32-10 as its authors publish them.
_KNOWN = (
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def random_numbers() -> list[Check]:
    """Known answers of the generator, and the variance of its normals."""
    wrong = 0
    for counter, key, words in _KNOWN:
        found = philox(tuple(_word(v) for v in counter), tuple(_word(v) for v in key))  # type: ignore[arg-type]
        wrong += sum(int(f) != w for f, w in zip(found, words, strict=True))
    rows = 4096
    zero = torch.zeros(rows, dtype=torch.int64)
    at = Address(zero, zero, torch.arange(rows), zero)
    z = Noise(0).normal(Purpose.MOVE, at, (64,), torch.float64)
    error = math.sqrt(2 / z.numel())
    return [
        judge("philox", "wrong words of known answers", wrong, 0, 0.0),
        judge("normals", "variance", float(z.square().mean()), 1.0, error),
    ]


def resampling(replicates: int) -> list[Check]:
    """Mean number of children against N W, worst particle, for every scheme."""
    n = 8
    log_weights = torch.linspace(-2.0, 1.0, n, dtype=torch.float64).square()
    weights = normalise(log_weights[None]).expand(replicates, n)
    generator = torch.Generator().manual_seed(0)
    checks = []
    for name, scheme in SCHEMES.items():
        u = torch.rand(replicates, scheme.uniforms(n, n), dtype=torch.float64, generator=generator)
        counts = scheme(weights, n, u).double()
        error = counts.std(dim=0) / math.sqrt(replicates)
        off = (counts.mean(dim=0) - n * weights[0]) / error.clamp_min(1e-9)
        worst = int(off.abs().argmax())
        checks.append(
            judge(
                f"resampling {name}",
                f"mean children of particle {worst}",
                float(counts[:, worst].mean()),
                float(n * weights[0, worst]),
                float(error[worst]),
            )
        )
    return checks


def marginals(n: int) -> list[Check]:
    """Mean and variance of samples of a two-component mixture under the ODE and three SDEs."""
    mixture = GaussianMixture([0.4, 0.6], [[-1.5], [1.0]], [0.5, 0.3])
    mean, variance = float(mixture.mean()), float(mixture.cov())
    views = {
        "ODE": (None, None),
        "SDE natural": (SDE(), None),
        "SDE g = 1, Euler-Maruyama": (SDE(diffusion=1.0), "euler-maruyama"),
        "SDE on VP, g = sigma": (SDE(interpolant="vp", diffusion=Coefficient("sigma")), None),
    }
    checks = []
    for name, (process, solver) in views.items():
        x = sample(mixture, n=n, process=process, solver=solver, steps=100).samples.double().flatten()
        spread = (x - x.mean()).square()
        error = float(spread.std()) / math.sqrt(n)
        # 0.02: what 100 steps cost, Euler-Maruyama the most
        checks.append(judge(name, "mean", float(x.mean()), mean, float(x.std()) / math.sqrt(n), 0.02))
        checks.append(judge(name, "variance", float(spread.mean()), variance, error, 0.02))
    return checks


def _word(value: int) -> Tensor:
    return torch.tensor([value])
