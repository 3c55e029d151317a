"""Soft value-based decoding: each chain keeps one of M children at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from itscale.methods.nested_smc import NestedSMC
from itscale.methods.preset import Preset


@dataclass(frozen=True, kw_only=True)
class SVDD(Preset):
    """N independent chains; at each step M children are scored and one survives, without weights.

    Cost: N (1 + M (T - 1)) NFE and as many reward calls. It is a search: finite M pulls towards the base
    law, approximate values away from both, and the best child at every step (``selection="argmax"``, the
    published code) drives samples off the data. ``NestedSMC`` is the same loop with weights that repair it.

    Attributes:
        particles: N, the number of chains; None takes what the budget allows.
        children: M.
        selection: ``"soft"`` draws in proportion to exp(tilt r); ``"argmax"`` takes the best child.
        score_every, score_window: as in ``NestedSMC``.

    Reference:
        Li et al. (2024), "Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft
        Value-Based Decoding", arXiv:2408.08252, Algorithm 1 (SVDD-PM).
    """

    particles: int | None = None
    children: int = 4
    selection: Literal["soft", "argmax"] = "soft"
    score_every: int = 1
    score_window: tuple[int, int] | None = None

    def core(self) -> NestedSMC:
        return NestedSMC(
            particles=self.particles,
            children=self.children,
            selection=self.selection,
            score_every=self.score_every,
            score_window=self.score_window,
            correct=False,
        )
