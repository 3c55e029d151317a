"""Rewards on mixtures for which the right advice is known, and hand-made pilots."""

from __future__ import annotations

import torch
from torch import Tensor

import itscale
from itscale.advice import Pilot
from itscale.budget import Spent
from itscale.methods import Profile
from tests.oracles import mixture_16d

GENERATOR = torch.Generator().manual_seed(3)
DIRECTION = torch.nn.functional.normalize(torch.randn(16, generator=GENERATOR, dtype=torch.float64), dim=0)
WAVES = 3 * torch.randn(24, 16, generator=GENERATOR, dtype=torch.float64)
MIXTURE = mixture_16d()
APART = itscale.models.GaussianMixture([0.5, 0.5], [[-4.0, 0.0], [4.0, 0.0]], [0.3, 0.3], dtype=torch.float64)


@itscale.reward(name="linear", modality="vector", differentiable=True)
def linear(vectors: Tensor) -> Tensor:
    return vectors @ DIRECTION.to(vectors)


@itscale.reward(name="rough", modality="vector")
def rough(vectors: Tensor) -> Tensor:
    """Waves shorter than the width of a component: denoised samples say nothing until late."""
    return (vectors @ WAVES.to(vectors).T).sin().sum(-1)


@itscale.reward(name="side", modality="vector", differentiable=True)
def side(vectors: Tensor) -> Tensor:
    """Decided with the component, which is known early."""
    return vectors[:, 0]


def hand_made(rewards: Tensor, condition: Tensor | None = None) -> Pilot:
    """A pilot with the rewards (m, steps) that are given."""
    steps = rewards.shape[1]
    times = torch.arange(steps, dtype=torch.float64) / steps
    vague = torch.ones(1, len(rewards), steps)
    profile = Profile.of_model(times, vague).with_reward(rewards[None].double())
    condition = torch.zeros(len(rewards), dtype=torch.int64) if condition is None else condition
    return Pilot(profile, rewards.double(), condition, Spent.nothing(), 0, 1.0, 1.0)
