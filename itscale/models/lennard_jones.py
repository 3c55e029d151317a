"""The bundled model of a Lennard-Jones cluster at temperature 2."""

from __future__ import annotations

from torch import Tensor, nn

from itscale.interpolants import VE, Interpolant
from itscale.models.point_clouds import PointCloud, wrap_points
from itscale.networks.point_denoiser import PointDenoiser
from itscale.networks.shipped import with_weights

TEMPERATURE = 2.0
DATA_STD = 1.251
"""Standard deviation of a free coordinate at this temperature."""
PATH = VE(0.01, 4.0)


class AtTime(nn.Module):
    """A denoiser that is asked by noise level, asked by time."""

    def __init__(self, network: nn.Module, path: Interpolant) -> None:
        super().__init__()
        self.network, self.path = network, path

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, self.path.sigma(t).to(x))


def cluster(network: nn.Module, data_std: float = DATA_STD) -> PointCloud:
    """A denoiser of the 13 points as a model."""
    module = AtTime(network, PATH)
    return wrap_points(module, points=13, predicts="denoised", interpolant=PATH, variance=data_std**2)


def load_lennard_jones() -> PointCloud:
    """Load the bundled model of 13 Lennard-Jones points at T = 2, on the CPU in float32.

    ``model ** (2 / T)`` is the cluster at temperature T; ``itscale.rewards.LennardJones`` has its energy.
    """
    return cluster(with_weights(PointDenoiser(data_std=DATA_STD), "lennard-jones"))
