"""How far reconstructions are from the truth, and from the measurement."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.operators.likelihoods import Likelihood


def psnr(x: Tensor, truth: Tensor, data_range: float = 1.0) -> Float64[Tensor, " n"]:
    """Peak signal-to-noise ratio in dB of images (n, c, h, w): ``10 log10(range^2 / mean square error)``."""
    square = (x.double() - truth.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(data_range**2 / square.clamp_min(1e-300))


def ssim(x: Tensor, truth: Tensor, data_range: float = 1.0) -> Float64[Tensor, " n"]:
    """Structural similarity of images (n, c, h, w), in [-1, 1], mean over pixels and channels.

    Windows are 11 x 11 Gaussians of standard deviation 1.5 that lie within the image; K1 .01, K2 .03.

    Raises:
        ConfigError: for images smaller than a window.

    Reference:
        Wang, Bovik, Sheikh and Simoncelli (2004), "Image Quality Assessment", IEEE TIP 13(4).
    """
    if min(x.shape[-2:]) < 11:
        raise ConfigError(f"ssim needs images of at least 11 x 11 pixels, got {tuple(x.shape[-2:])}")
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    axis = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(axis**2) / (2 * 1.5**2))
    window = (line[:, None] * line)[None, None] / line.sum() ** 2

    def mean(image: Tensor) -> Tensor:
        flat = image.reshape(-1, 1, *image.shape[-2:])
        return torch.nn.functional.conv2d(flat, window.to(flat.device))

    a, b = torch.broadcast_tensors(x.double(), truth.double())
    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    similarity = (2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return similarity.reshape(len(x), -1).mean(1)


def misfit(x: Tensor, likelihood: Likelihood) -> Float64[Tensor, " n"]:
    """``|y - A x|^2 / (m sigma^2)`` of samples: about 1 for draws of a posterior, less is over-fitted."""
    stand_in = likelihood.stand_in
    e = (stand_in.measurement.to(x) - likelihood.operator(x)).flatten(1).double()
    return e.square().mean(1) / stand_in.std**2


def best_of_symmetries(x: Tensor, truth: Tensor, shift: bool = False) -> Tensor:
    """Each image or its point reflection, whichever is nearer to the truth: phases lost allow no more.

    With ``shift`` also the cyclic shifts of both, found by their correlation with the truth.
    """
    candidates = [x, x.flip(-1, -2)]
    if shift:
        candidates = [_aligned(one, truth) for one in candidates]
    error = torch.stack([(one - truth).flatten(1).square().sum(1) for one in candidates])
    nearest = error.argmin(0)
    return torch.stack(candidates)[nearest, torch.arange(len(x))]


def _aligned(x: Tensor, truth: Tensor) -> Tensor:
    product = torch.fft.fft2(truth.expand_as(x)) * torch.fft.fft2(x).conj()
    correlation = torch.fft.ifft2(product).real.sum(1).flatten(1).argmax(1)
    width = x.shape[-1]
    shifts = [(int(k) // width, int(k) % width) for k in correlation]
    return torch.stack([one.roll(by, (-2, -1)) for one, by in zip(x, shifts, strict=True)])
