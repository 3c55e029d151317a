"""Active measurement: which of several operators to apply next, by the entropy of what it would show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.methods import Method
from itscale.models.base import Model
from itscale.operators import GaussianLikelihood, Operator, Stacked
from itscale.result import Result


def expected_entropy(
    candidates: Sequence[Operator],
    samples: Float[Tensor, "n *event"],
    weights: Float64[Tensor, " n"],
    sigma: float,
) -> Float64[Tensor, " candidates"]:
    """A lower bound of the entropy of each candidate's noisy measurement, up to one constant.

    What is known of the data is ``sum_i w_i delta(x_i)``, so the measurement of A is a mixture of normals
    around
    ``A x_i``, and by Jensen's inequality its entropy is at least ``-sum_i w_i log sum_j w_j exp(-|A (x_i -
    x_j)|^2 / (4 sigma^2))`` and a constant. With equal noise for all, the highest is also the largest mutual
    information.

    Args:
        candidates: operators with measurements of equal size.
        samples: a weighted set that follows the posterior; a biased one makes a biased choice.
        weights: sum 1.
        sigma: standard deviation of the noise.

    Reference:
        Nolan, Stevens, van Nierop and van Sloun (2024), "Active Diffusion Subsampling", arXiv:2406.14388.
    """
    sizes = {operator.size for operator in candidates}
    if len(sizes) > 1:
        raise ConfigError(
            f"candidates measure {sorted(sizes)} numbers, and their entropies cannot be compared; give "
            f"operators of "
            "one size"
        )
    if not sigma > 0:
        raise ConfigError(f"sigma must be > 0, got {sigma!r}")
    scores = []
    for operator in candidates:
        seen = operator(samples).flatten(1).double()
        distance = torch.cdist(seen, seen, compute_mode="donot_use_mm_for_euclid_dist").square()
        near = torch.logsumexp(weights.log() - distance / (4 * sigma**2), dim=1)
        scores.append(-(weights * near.nan_to_num(neginf=0.0)).sum())
    return torch.stack(scores)


@dataclass(frozen=True)
class Acquired:
    """What was measured, in order, and the posterior after it.

    Attributes:
        chosen: index of each candidate.
        likelihood: of all measurements together.
        result: the posterior given them.
    """

    chosen: list[int]
    likelihood: GaussianLikelihood
    result: Result


def acquire(
    model: Model,
    candidates: Sequence[Operator],
    measure: Callable[[int], Tensor],
    *,
    rounds: int,
    sigma: float,
    method: str | Method,
    first: int | None = None,
    **settings: Any,
) -> Acquired:
    """Measure one candidate after another, each time the one whose result is least foreseeable.

    After every measurement the posterior is sampled anew, so the cost is ``rounds`` runs of the method (and
    one more, of unguided samples, where the first choice is left to the model).

    Args:
        candidates: operators on decoded samples; each is measured at most once.
        measure: returns the measurement of a candidate by its index.
        rounds: how many to measure.
        sigma: standard deviation of the noise.
        method: samples posteriors; one whose weighted samples follow them, such as ``PiGDM(correct=True)``.
        first: the candidate to begin with; None chooses it by unguided samples.
        settings: more arguments of ``sample``.
    """
    from itscale.sampling import sample

    if not 1 <= rounds <= len(candidates):
        raise ConfigError(f"rounds must be in [1, {len(candidates)}], got {rounds}")
    chosen: list[int] = []
    parts: list[Tensor] = []
    result: Result | None = None
    likelihood: GaussianLikelihood | None = None
    for turn in range(rounds):
        if turn == 0 and first is not None:
            pick = first
        else:
            known = result
            if known is None:
                about = {k: v for k, v in settings.items() if k not in ("tilt", "budget", "particles")}
                known = sample(model, n=64, **{**about, "process": None, "solver": None})
            left = [c for c in range(len(candidates)) if c not in chosen]
            x = known.samples.flatten(0, 1)
            w = (known.weights / known.groups).flatten()
            scores = expected_entropy([candidates[c] for c in left], x, w, sigma)
            pick = left[int(scores.argmax())]
        chosen.append(pick)
        parts.append(measure(pick).flatten())
        joint = Stacked(tuple(candidates[c] for c in chosen))
        likelihood = GaussianLikelihood(joint.simplest(), torch.cat(parts), sigma)
        result = sample(model, reward=likelihood, method=method, **settings)
    assert result is not None
    assert likelihood is not None
    return Acquired(chosen, likelihood, result)
