"""Even noise times moved towards noise, as much as the size of an image asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from itscale.grids.base import Times, check_positive, check_start, from_noise_time
from itscale.interpolants import Interpolant


def shifted(interpolant: Interpolant, steps: int, t_start: float = 0.0, *, shift: float = 3.0) -> Times:
    """Noise times ``tau = 1 - t`` moved to ``shift tau / (1 + (shift - 1) tau)``.

    ``shift > 1`` moves towards noise; on the linear path it multiplies ``kappa`` by ``shift``. With
    ``t_start > 0`` the grid covers the rest of the same warp. diffusers applies a static shift twice at its
    low end; this is the formula applied once.

    Reference:
        Esser et al. (2024), "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis",
        arXiv:2403.03206, section 5.3.2. Default: SD3.
    """
    check_start(steps, t_start)
    tau_start = (1 - t_start) / (shift - (shift - 1) * (1 - t_start))  # the inverse of the warp
    tau = torch.linspace(tau_start, 0.0, steps + 1, dtype=torch.float64)
    return from_noise_time(shift * tau / (1 + (shift - 1) * tau), t_start)


def dynamic_shift(tokens: int, shifts: tuple[float, float] = (0.5, 1.15)) -> float:
    """The shift for an image of so many tokens: ``exp(mu)`` with mu linear in them.

    ``shifts`` are mu at 256 and at 4096 tokens. FLUX packs 16 x 16 pixels into a token, so that 4096 of them
    are 1024 x 1024 pixels.

    Reference:
        Esser et al. (2024), arXiv:2403.03206, section 5.3.2; the line is that of FLUX's released code.
    """
    return math.exp(shifts[0] + (shifts[1] - shifts[0]) * (tokens - 256) / (4096 - 256))


@dataclass(frozen=True)
class Shifted:
    """Settings of :func:`shifted`."""

    shift: float = 3.0

    def __post_init__(self) -> None:
        check_positive("Shifted", "shift", self.shift)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        return shifted(interpolant, steps, t_start, shift=self.shift)


@dataclass(frozen=True)
class DynamicShifted:
    """:func:`shifted` by :func:`dynamic_shift` (FLUX, LTX; SD3 on request).

    Attributes:
        tokens: size of the image, or of the video, in tokens.
        low, high: logarithms of the shift at 256 and at 4096 tokens.
    """

    tokens: int = 4096
    low: float = 0.5
    high: float = 1.15

    def __post_init__(self) -> None:
        check_positive("DynamicShifted", "tokens", self.tokens)

    def __call__(self, interpolant: Interpolant, steps: int, t_start: float = 0.0) -> Times:
        shift = dynamic_shift(self.tokens, (self.low, self.high))
        return shifted(interpolant, steps, t_start, shift=shift)
