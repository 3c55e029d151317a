"""The log-density of a noise's length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.types import State, expand_over_event


@dataclass(frozen=True)
class Norm:
    """``(d - 1) log|z| - |z|^2 / 2``, highest at ``|z| = sqrt(d - 1)``: lengths stay those of normals.

    It says nothing of the direction.

    Reference:
        Samuel et al. (2023), "Norm-guided latent space exploration for text-to-image generation",
        arXiv:2306.08687; used by ReNO (Eyring et al. 2024, arXiv:2406.04312), section 3.
    """

    def log_density(self, z: State, turn: int = 0) -> Float[Tensor, " rows"]:
        """Per row, up to a constant."""
        flat = z.flatten(1).double()
        square = flat.square().sum(1)
        return (flat.shape[1] - 1) / 2 * square.log() - square / 2

    def gradient(self, z: State, turn: int = 0) -> State:
        """Of ``log_density``."""
        flat = z.flatten(1)
        square = flat.square().sum(1)
        return z * expand_over_event((flat.shape[1] - 1) / square.clamp_min(torch.finfo(z.dtype).tiny) - 1, z)
