"""Soft value-based decoding: each chain keeps one of M children at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from itscale.errors import ConfigError
from itscale.methods.drawing import THRESHOLDS, Threshold
from itscale.methods.nested_smc import NestedSMC
from itscale.methods.preset import Preset
from itscale.methods.rolling_svdd import RollingSVDD


@dataclass(frozen=True, kw_only=True)
class SVDD(Preset):
    """N independent chains; at each step M children are scored and one survives, without weights.

    Cost: N (1 + M (T - 1)) NFE and as many reward calls; N (T - 1 + M) NFE and N M calls with a learned value
    (SVDD-MC), which needs no look. It is a search: finite M pulls towards the base
    law, approximate values away from both, and the best child at every step (``selection="argmax"``, the
    published code) drives samples off the data. ``NestedSMC`` is the same loop with weights that repair it.
    With a rollover a chain stops drawing once a child is better than ``rollover`` says, and its chains stand
    at levels of their own; it spends as much, most of it on the last level.

    Attributes:
        particles: N, the number of chains; None takes what the budget allows.
        children: M.
        selection: ``"soft"`` draws in proportion to exp(tilt r); ``"argmax"`` takes the best child.
        score_every, score_window: as in ``NestedSMC``.
        rollover: move on with the first child that beats its ``"parent"``, or all that the chain has seen
            (``"historical"``), and keep the draws that this saves for the levels to come. Needs ``"argmax"``.

    Reference:
        Li et al. (2024), "Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft
        Value-Based Decoding", arXiv:2408.08252, Algorithm 1 (SVDD-PM,
        SVDD-MC with ``value=itscale.fit_value(...)``).
    """

    particles: int | None = None
    children: int = 4
    selection: Literal["soft", "argmax"] = "soft"
    score_every: int = 1
    score_window: tuple[int, int] | None = None
    rollover: Threshold | None = None

    def __post_init__(self) -> None:
        if self.rollover is not None:
            if self.rollover not in THRESHOLDS:
                raise ConfigError(f"rollover must be 'parent', 'historical' or None, got {self.rollover!r}")
            if self.selection != "argmax" or self.score_every > 1 or self.score_window is not None:
                raise ConfigError(
                    "rollover moves on with the first child that is better, scored at every level: set "
                    "selection='argmax', score_every=1 and no score_window"
                )
        super().__post_init__()

    @property
    def has_lineage(self) -> bool:
        return self.rollover is None

    def core(self) -> NestedSMC | RollingSVDD:
        if self.rollover is not None:
            return RollingSVDD(particles=self.particles, children=self.children, threshold=self.rollover)
        return NestedSMC(
            particles=self.particles,
            children=self.children,
            selection=self.selection,
            score_every=self.score_every,
            score_window=self.score_window,
            correct=False,
        )
