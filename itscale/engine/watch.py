"""What goes wrong in a run without stopping it: said once, in words that say what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import NonFiniteState
from itscale.particles import effective_sample_size

MAX_DEAD = 0.1  # share of non-finite states above which a run stops
SAME_SCORES = 3  # scorings in a row without a difference after which a reader is told


@dataclass
class Watch:
    """Looks at scores and weights as they come.

    Attributes:
        warnings: what a reader of the numbers should know.
    """

    warnings: list[str] = field(default_factory=list)
    constant_scores: int = 0
    has_resampled: bool = False

    def count_dead(self, finite: Tensor, level: int | Tensor) -> int:
        """Return how many states are not finite.

        Raises:
            NonFiniteState: if that is more than ``MAX_DEAD`` of them.
        """
        dead = finite.numel() - int(np.count_nonzero(finite.numpy()))
        if dead > MAX_DEAD * finite.numel():
            where = (~finite).nonzero().tolist()[:5]
            raise NonFiniteState(
                f"{dead} of {finite.numel()} states are NaN or infinite at level {level} "
                f"(first (group, particle): {where}); use more steps, a smaller diffusion coefficient or tilt"
            )
        return dead

    def see_scores(self, reward: Float64[Tensor, "g n"]) -> None:
        """Warn if all particles score the same again and again."""
        numbers = reward.numpy()
        is_constant = numbers.size > 1 and bool((numbers == numbers.flat[0]).all())
        self.constant_scores = self.constant_scores + 1 if is_constant else 0
        if self.constant_scores == SAME_SCORES:
            self.warnings.append(
                "the reward was the same for all particles three times in a row: steering does nothing then; "
                "check prompts, weights, and whether the reward sees what it expects"
            )

    def see_weights(self, log_weights: Float64[Tensor, "g n"], tilt: float) -> None:
        """Warn if hardly a particle counts at the first resampling, and name a tilt that would do."""
        if self.has_resampled:
            return
        self.has_resampled = True
        n = log_weights.shape[1]
        ess = effective_sample_size(log_weights)
        worst = int(ess.argmin())
        if n < 4 or float(ess[worst]) >= 2:
            return
        low, high = 0.0, 1.0
        for _ in range(30):  # the share of the weights' logarithm at which half the particles count
            middle = (low + high) / 2
            half = effective_sample_size(middle * log_weights[worst]) >= n / 2
            low, high = (middle, high) if half else (low, middle)
        self.warnings.append(
            f"only {float(ess[worst]):.1f} of {n} particles counted at the first resampling: the tilt is "
            f"too sharp for so few; about tilt={low * tilt:.2g} would keep half of them"
        )

    def snapshot(self) -> dict[str, Any]:
        """Return what it remembers, as plain values; ``Watch(**snapshot)`` goes on from there."""
        return {**vars(self), "warnings": list(self.warnings)}
