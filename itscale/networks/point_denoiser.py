"""Denoiser of point clouds, equivariant under rotations, reflections and permutations of the points."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PointDenoiser(nn.Module):
    """Denoised positions ``D(x, sigma)`` of points without their centre of mass.

    Every layer sends messages along all ordered pairs, made of both points' features and of distances, and
    moves each point along the directions to the others. Directions and distances alone enter, so the output
    turns with the input; points share all weights, so it is permuted with it.

    ``D = c_skip x + c_out F(c_in x, log(sigma)/4)`` with the factors that keep inputs and targets of unit
    variance for data of standard deviation ``data_std`` per coordinate.

    Args:
        width: features of a point and of a message.
        layers: rounds of messages.
        data_std: standard deviation of a coordinate of the data.

    Reference:
        Satorras, Hoogeboom and Welling (2021), "E(n) Equivariant Graph Neural Networks", arXiv:2102.09844;
        Karras et al. (2022), arXiv:2206.00364, Table 1, for the factors.
    """

    FREQUENCIES = 16
    frequencies: Tensor
    centres: Tensor
    sharpness: Tensor

    def __init__(self, width: int = 64, layers: int = 5, data_std: float = 1.2) -> None:
        super().__init__()
        self.data_std = data_std
        self.start = nn.Sequential(nn.Linear(2 * self.FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("frequencies", 2 ** torch.linspace(-3, 4, self.FREQUENCIES), persistent=False)
        # closest where points touch: the force changes over a few hundredths of a distance there
        near, touching, far = (
            torch.linspace(0, 0.4, 3),
            torch.linspace(0.5, 1.5, 21),
            torch.linspace(1.7, 4, 10),
        )
        centres = torch.cat([near, touching, far])
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("sharpness", 1 / torch.gradient(centres)[0], persistent=False)
        self.layers = nn.ModuleList(PairLayer(width, 2 * len(centres)) for _ in range(layers))

    def forward(
        self, x: Float[Tensor, "rows points d"], sigma: Float[Tensor, " rows"]
    ) -> Float[Tensor, "rows points d"]:
        """The mean of the clean positions, given centred ones with noise of deviation ``sigma > 0``."""
        s = sigma[:, None, None]
        total = (s**2 + self.data_std**2).sqrt()
        scaled = x / total
        angle = math.tau * (sigma.log() / 4)[:, None] * self.frequencies
        time = self.start(torch.cat([angle.cos(), angle.sin()], dim=1))
        h = time[:, None].expand(-1, x.shape[1], -1)
        y, before = scaled, self.basis(self.pairs(scaled)[1])
        for layer in self.layers:
            gap, distance = self.pairs(y)
            basis = self.basis(distance)
            h, move = layer(h, torch.cat([before, basis], dim=-1), gap / (distance[..., None] + 0.1))
            y = y + move
        out = y - scaled
        out = 4 * (out - out.mean(dim=1, keepdim=True))
        return (self.data_std / total) ** 2 * x + s * self.data_std / total * out

    def basis(self, distance: Tensor) -> Tensor:
        """Bumps around the centres."""
        return torch.exp(-((distance[..., None] - self.centres) * self.sharpness).square())

    @staticmethod
    def pairs(y: Tensor) -> tuple[Tensor, Tensor]:
        """Directions between all points, and distances; a tiny constant keeps gradients finite."""
        gap = y[:, :, None] - y[:, None]
        return gap, (gap.square().sum(-1) + 1e-8).sqrt()


class PairLayer(nn.Module):
    """One round of messages between all points."""

    def __init__(self, width: int, basis: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(width, width)
        self.sender = nn.Linear(width, width, bias=False)
        self.distance = nn.Linear(basis, width, bias=False)
        self.message = nn.Linear(width, width)
        self.pull = nn.Linear(width, 1, bias=False)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.normal_(self.pull.weight, std=0.1 / math.sqrt(width))

    def forward(self, h: Tensor, basis: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        points = h.shape[1]
        edge = self.receiver(h)[:, :, None] + self.sender(h)[:, None] + self.distance(basis)
        message = nn.functional.silu(self.message(nn.functional.silu(edge)))
        move = (self.pull(message) * direction).sum(dim=2) / math.sqrt(points)
        # the message of a point to itself has no direction; it is one more feature of the sum
        total = message.sum(dim=2) / points
        return h + self.update(torch.cat([h, total], dim=-1)), move
