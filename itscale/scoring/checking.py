"""``check_reward``: the promises of a reward, tried on a few synthetic samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itscale.errors import ItscaleError
from itscale.scoring.convert import as_reward
from itscale.scoring.facts import take_facts, take_samples
from itscale.scoring.leaf import last_line
from itscale.scoring.protocol import Reward
from itscale.scoring.spec import Scores

STEP = 1e-3
"""Half the distance of a finite difference: below it float32 rounding dominates, above it curvature."""
SHAPES = {"image": (3, 32, 32), "video": (4, 3, 16, 16), "latent": (4, 8, 8), "vector": (2,)}
TEXTS = {
    "molecule": ["CCO", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C"],
    "sequence": ["ACGTACGTACGT", "TTTTAAAACCCC", "GGGCGCGATATA", "ATATCGCGTTAA"],
    "text": [
        "A cat sat on the mat.",
        "The sea is calm today.",
        "Nobody likes rain.",
        "Two and two are four.",
    ],
}
PROMPTS = ["a red apple", "a blue car in the rain", "two cats", "the letter A"]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check; ``detail`` says what was seen, or why the check does not apply."""

    name: str
    passed: bool
    detail: str


def synthetic_samples(reward: Any, samples: int = 4, seed: int = 0) -> Any:
    """Samples of the modality that a reward declares: smooth random images, valid molecules, ...

    Args:
        reward: anything that ``as_reward`` takes; modality ``"any"`` gets images.
        samples: how many.
        seed: of the pixels and numbers.
    """
    spec = as_reward(reward).spec
    if spec.modality in TEXTS:
        texts = TEXTS[spec.modality]
        return [texts[i % len(texts)] for i in range(samples)]
    shape = spec.example_shape or SHAPES.get(spec.modality, SHAPES["image"])
    draws = np.random.default_rng(seed)
    if spec.modality in ("latent", "vector"):
        return torch.from_numpy(draws.standard_normal((samples, *shape))).float()
    # kept off 0 and 1, so that finite differences stay inside
    return torch.from_numpy(draws.uniform(0.1, 0.9, (samples, *shape))).float()


def check_reward(
    reward: Any, samples: Any = None, facts: Mapping[str, Any] | None = None
) -> list[CheckResult]:
    """Try what the contract promises; a failed check names what a run would suffer from.

    Args:
        reward: anything that ``as_reward`` takes.
        samples: what to score; four synthetic samples of its modality by default.
        facts: per-sample facts; different prompts and the conditions 0, 1, 2, 3 by default.

    Returns:
        Results for shape, finiteness, determinism, permutation equivariance, independence of the
        batch, and the gradient. After a failure to score at all, that one only.
    """
    reward = as_reward(reward)
    if samples is None:
        samples = synthetic_samples(reward)
    m = len(samples)
    if facts is None:
        prompts = [PROMPTS[i % len(PROMPTS)] for i in range(m)]
        facts = {"prompts": prompts, "conditions": [i % 10 for i in range(m)], "t": 1.0, "is_final": True}
    try:
        scores = reward.score(samples, facts)
    except ItscaleError as error:
        return [CheckResult("shape", False, str(error))]
    results = [
        CheckResult("shape", True, f"{m} samples gave {m} scores"),
        _finiteness(scores),
    ]
    checks: dict[str, Callable[..., CheckResult]] = {
        "determinism": _determinism,
        "permutation": _permutation,
        "batch independence": _batch_independence,
        "gradient": _gradient,
    }
    for name, check in checks.items():
        try:
            results.append(check(name, reward, samples, facts, scores))
        except Exception as error:  # whatever it is, it is the finding
            results.append(CheckResult(name, False, last_line(error)))
    return results


def _finiteness(scores: Scores) -> CheckResult:
    bad = int((~scores.valid | scores.values.isinf()).sum())
    low, high = scores.values.min().item(), scores.values.max().item()
    detail = f"scores from {low:.4g} to {high:.4g}"
    if bad:
        detail = (
            f"{bad} of {len(scores)} without a finite score: {scores.first_reason or 'the score is -inf'}"
        )
    return CheckResult("finiteness", bad == 0, detail)


def _determinism(
    name: str, reward: Reward, samples: Any, facts: Mapping[str, Any], scores: Scores
) -> CheckResult:
    if not reward.spec.deterministic:
        return _not_applicable(name)
    return _same(name, reward.score(samples, facts).values, scores.values, 0.0, "two calls differ")


def _permutation(
    name: str, reward: Reward, samples: Any, facts: Mapping[str, Any], scores: Scores
) -> CheckResult:
    if not reward.spec.deterministic:
        return _not_applicable(name)
    m = len(scores)
    order = [*range(1, m), 0]  # a rotation leaves no sample in its place
    rotated = reward.score(take_samples(samples, order), take_facts(facts, order)).values
    why = "samples in another order get other scores: is a prompt or a position mixed up?"
    return _same(name, rotated, scores.values[order], _tolerance(scores.values), why)


def _batch_independence(
    name: str, reward: Reward, samples: Any, facts: Mapping[str, Any], scores: Scores
) -> CheckResult:
    if not reward.spec.deterministic:
        return _not_applicable(name)
    alone = reward.score(samples, facts, batch_size=1).values
    why = "a sample alone gets another score than in a batch: is something normalised over the batch?"
    return _same(name, alone, scores.values, _tolerance(scores.values), why)


def _gradient(
    name: str, reward: Reward, samples: Any, facts: Mapping[str, Any], scores: Scores
) -> CheckResult:
    """Compare directional derivatives with central differences, along the gradient and a random direction."""
    if not reward.gradient_ready:
        return CheckResult(name, True, "not claimed")
    if not reward.spec.deterministic:
        return _not_applicable(name)
    with torch.enable_grad():
        x = samples.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(reward.raw(x, facts).sum(), x)
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=tuple(samples.shape))
    largest = gradient.abs().flatten(1).amax(dim=1).clamp(min=1e-30)
    along = gradient / largest.reshape(-1, *(1,) * (gradient.ndim - 1))
    worst = 0.0
    for direction in (along, torch.from_numpy(signs).to(samples)):
        with torch.no_grad():
            ahead, behind = (
                reward.raw(samples + STEP * direction, facts),
                reward.raw(samples - STEP * direction, facts),
            )
        measured = (ahead - behind).double() / (2 * STEP)
        claimed = (gradient.double() * direction.double()).flatten(1).sum(dim=1)
        # A few units of rounding in two float32 scores; 5 % for curvature; and for rewards made of
        # absolute values, a fifth of the slope along random signs: about 2 standard deviations of
        # what the 0.3 % of pixel pairs that swap order within a step contribute, taken four times.
        rounding = 8 * torch.finfo(torch.float32).eps * scores.values.abs().double() / STEP
        slope = gradient.double().flatten(1).norm(dim=1)
        room = rounding + 0.05 * torch.maximum(measured.abs(), claimed.abs()) + 0.2 * slope
        worst = max(worst, ((measured - claimed).abs() / room).max().item())
    if not math.isfinite(worst) or worst > 1:
        return CheckResult(
            name, False, "it differs from finite differences: is something detached or rounded?"
        )
    return CheckResult(name, True, "agrees with finite differences")


def _tolerance(values: Tensor) -> float:
    """Float32 networks sum in another order for another batch size: 1e-4 of the largest score."""
    finite = values[values.isfinite()]
    return 1e-4 * max(1e-2, float(finite.abs().max())) if len(finite) else 0.0


def _same(name: str, seen: Tensor, expected: Tensor, tolerance: float, why: str) -> CheckResult:
    apart = torch.where(seen == expected, 0.0, (seen - expected).abs())  # equal infinities are equal
    worst = float(apart.max())
    if worst <= tolerance:
        return CheckResult(name, True, f"largest difference {worst:.2g}")
    return CheckResult(name, False, f"{why} (by up to {worst:.4g})")


def _not_applicable(name: str) -> CheckResult:
    return CheckResult(name, True, "does not apply: declared not deterministic")
