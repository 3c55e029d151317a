"""The tilted planar mixture: errors of a run in expected reward, evidence and weights of the modes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

import itscale
from itscale.result import Result
from tests.oracles import DIRECTION, mixture_2d


@dataclass(frozen=True)
class Errors:
    """Estimate minus closed form; ``modes`` is the L1 distance of the weights of the four components."""

    expected_reward: float
    log_evidence: float
    modes: float


def linear_reward(vectors):
    return vectors @ torch.tensor(DIRECTION, dtype=vectors.dtype)


def run(
    method: Any, groups: int = 64, tilt: float = 1.0, seed: int = 1, reward: Any = None, **settings: Any
) -> Result:
    """50 ancestral steps, for which published figures exist."""
    settings = {"process": itscale.SDE(), "solver": "ancestral", "steps": 50, **settings}
    return itscale.sample(
        mixture_2d(),
        reward=reward or linear_reward,
        method=method,
        groups=groups,
        tilt=tilt,
        seed=seed,
        **settings,
    )


def errors(result: Result) -> Errors:
    target, log_z = mixture_2d().tilted_linear(DIRECTION, result.tilt)
    # E[responsibility of component k] under the target is its weight: no hard assignment, no bias
    flat = result.samples.reshape(-1, 2)
    share = target.posterior(flat, 1.0)[0].exp().reshape(*result.log_weights.shape, 4)
    modes = (result.weights[..., None] * share).sum(1).mean(0)
    # the mean of Z-hat over groups is unbiased, the mean of its logarithm is not
    evidence = torch.logsumexp(result.log_evidence, 0) - torch.tensor(float(result.groups)).double().log()
    return Errors(
        result.expect(result.rewards).value - target.expect_linear(DIRECTION),
        float(evidence) - log_z,
        float((modes - target.weights).abs().sum()),
    )
