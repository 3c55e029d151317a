"""A move on paths: take the last steps of a particle back, make them anew, accept or stay."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.methods.base import Cost, advance, check_count
from itscale.methods.metropolis import accept_by_value

SLOT = "slot in the past"


@dataclass(frozen=True, kw_only=True)
class Redraw:
    """At a level, go back to where a particle was some levels before and make the steps between anew.

    The new state is accepted by ``v_new - v_old``. On paths ``x_0 .. x_k`` this is Metropolis with proposals
    from the sampler itself, given the part that stays: it keeps ``p(x_0 .. x_k) exp(v(x_k))`` exactly, for
    any model, any solver and any number of steps. A Restart cycle (``Interval``) forgets the path and is as
    exact as its way up and down.

    Attributes:
        start: where to go back to, as a share of the steps.
        end: where moves are made, as a share of the steps; both are rounded to a level.
        repeats: moves.

    Reference:
        Gilks and Berzuini (2001), "Following a moving target: Monte Carlo inference for dynamic Bayesian
        models"; Doucet, Briers and Senecal (2006), "Efficient block sampling strategies for sequential Monte
        Carlo methods".
    """

    start: float = 0.25
    end: float = 0.5
    repeats: int = 3

    def __post_init__(self) -> None:
        check_count("repeats", self.repeats)
        if not 0 <= self.start < self.end <= 1:
            raise ConfigError(
                "a redraw needs 0 <= start < end <= 1, shares of the steps, got "
                f"{self.start!r} and {self.end!r}"
            )

    def levels(self, steps: int) -> tuple[int, int]:
        """Return the level to go back to and the one where moves are made.

        Raises:
            ConfigError: if they are one, or moves would be made at the end of the run.
        """
        first, last = (int(share * steps + 0.5) for share in (self.start, self.end))
        if not first < last < steps:
            raise ConfigError(
                f"{self} falls on levels {first} and {last} of {steps} steps, and needs two levels before "
                "the end; move start and end apart and away from 1, or take more steps"
            )
        return first, last

    def looks(self, cost: Cost) -> int:
        """NFE of one move of one particle."""
        first, last = self.levels(cost.steps)
        if not any(cost.noisy[first:last]):
            raise ConfigError(f"{self} makes steps without noise anew, which changes nothing; widen it")
        return sum(1 + cost.extra_looks[level] for level in range(first, last))


def remember(p: Particles) -> Particles:
    """Number the particles of a population to which their descendants may go back."""
    return replace(p, carry={**p.carry, SLOT: torch.arange(p.n).expand(p.groups, -1)})


def redraw_move(engine: Engine, p: Particles, past: Particles) -> Particles:
    """Make the steps from ``past`` to the level of p anew, with acceptance.

    Args:
        engine: whose verbs are used.
        p: scored particles, of which each descends from one of ``past``.
        past: a population that was looked at, as ``remember`` returned it.
    """
    q = replace(past.take(p.carry[SLOT]), move=p.move)
    for _ in range(int(p.level[0, 0]) - int(past.level[0, 0])):
        q = advance(engine, q, recorded=False)
    q = replace(
        engine.score(q),
        origin=p.origin,
        log_weights=p.log_weights,
        log_evidence=p.log_evidence,
        carry=p.carry,
    )
    return accept_by_value(engine, p, q)
