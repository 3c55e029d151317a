"""The rules, one function each: a figure of the pilot against a named threshold, and a sentence saying so.

Thresholds come from measurements on exact mixtures and on the bundled digits (``docs/methods.md``), or from
the variance formula of ``advice.variance``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

from itscale.advice.pilot import Pilot
from itscale.advice.tilts import ENOUGH, reweighted, tilt_for_gain

T = TypeVar("T")
Goal: TypeAlias = Literal["sample", "search", "evidence"]
GOALS: tuple[Goal, ...] = ("sample", "search", "evidence")

MANY, LONG = 25, 20  # more steps than LONG do not pay while there are fewer than MANY particles (mixtures)
FEW, SHORT = 8, 10  # particles below which a population is no guide; steps below which nothing was measured
SPREAD = 2.0  # tilt * sd(r) of a mild tilt: what tilt="auto" takes
SHARP = 16.0  # the same for a search: sharp SMC and CTS lead the searches there (mixtures, digits)
KNOWN = 0.9  # squared correlation half way above which calibration gains nothing (digits)
DECIDED = 0.5  # the same, below which more particles later pay (mixtures)
BLIND = 0.05  # below which early rewards say nothing: plain SMC lost to importance sampling there (mixtures)
EXPENSIVE = 5.0  # network rows that a reward call may cost before it is called less often
LEAST_GAIN = 0.05  # of squared correlation, per scored level


@dataclass(frozen=True)
class Finding(Generic[T]):
    """What a rule decides, and why: a sentence with its figure."""

    value: T
    reason: str


class Scoring(NamedTuple):
    """Score every that many levels, between a first and a last one before the end; None is all."""

    every: int
    window: tuple[int, int] | None


def steps_for(particles_at: Callable[[int], int], wanted: int) -> Finding[int]:
    """Take fewer steps where the budget leaves too few particles.

    Args:
        particles_at: particles that the budget pays for at a number of steps.
        wanted: steps asked for.
    """
    steps = wanted
    if steps > LONG and particles_at(steps) < MANY:
        steps = _most(particles_at, MANY, LONG, steps)
    if steps > SHORT and particles_at(steps) < FEW:
        steps = _most(particles_at, FEW, SHORT, steps)
    left = _count(particles_at(steps))
    if steps == wanted:
        return Finding(steps, f"The budget pays for {left} at {steps} steps.")
    return Finding(
        steps,
        f"{wanted} steps would leave {_count(particles_at(wanted))}; {steps} steps leave {left}, and more "
        f"particles are worth more than more steps while there are fewer than {MANY}.",
    )


def _most(particles_at: Callable[[int], int], enough: int, least: int, most: int) -> int:
    """The most steps that leave enough particles, or the fewest allowed."""
    low, high = least, most + 1
    while high - low > 1:  # particles fall as steps are added
        middle = (low + high) // 2
        low, high = (middle, high) if particles_at(middle) >= enough else (low, middle)
    return low


def _count(n: int) -> str:
    return "1 particle" if n == 1 else f"{n} particles"


def tilt_by_spread(deviation: float, goal: Goal) -> Finding[float]:
    """A mild tilt for samples and evidence, a sharp one for a search.

    Args:
        deviation: standard deviation of the reward over unguided samples.
    """
    spread, word = (SHARP, "sharp, for a search") if goal == "search" else (SPREAD, "mild")
    return Finding(
        spread / deviation,
        f"Unguided rewards have standard deviation {deviation:.3g}; tilt * sd = {spread:g} is {word}.",
    )


def tilt_by_mean(pilot: Pilot, want: float) -> Finding[float]:
    """The smallest tilt with the wanted mean reward, as far as the pilot can judge."""
    gain = want - pilot.mean
    if gain <= 0:
        return Finding(0.0, f"Unguided samples have mean reward {pilot.mean:.3g}: {want:g} needs no tilt.")
    final = pilot.deviations[:, -1]
    tilt = tilt_for_gain(final, gain)
    found = reweighted(final, tilt)
    reached = pilot.mean + found.gain
    if found.gain < gain * (1 - 1e-6):
        return Finding(
            tilt,
            f"A mean reward of {want:g} is beyond what {len(final)} unguided samples can judge: this tilt "
            f"gives about {reached:.3g}, and {found.ess:.0f} of them still count; at least {ENOUGH:g} must.",
        )
    return Finding(
        tilt,
        f"Unguided samples reweighted to this tilt have mean reward {reached:.3g}, and {found.ess:.0f} of "
        f"{len(final)} count; unguided it is {pilot.mean:.3g}.",
    )


def known_early(correlation: float, error: float) -> Finding[bool]:
    """Whether plain SMC is as good as calibration: early denoised samples have the final reward already.

    Args:
        correlation: squared, half way; ``error`` is its standard error.
    """
    known = correlation > KNOWN
    so = "calibration gained nothing where that was measured" if known else "early values need calibration"
    return Finding(
        known,
        f"Half way the reward of the denoised sample has squared correlation {correlation:.2f} ± {error:.2f} "
        f"with the final one, {'' if known else 'not '}above {KNOWN:g}: {so}.",
    )


def says_nothing_early(correlation: float) -> Finding[bool]:
    """Whether early rewards carry no information, so that values must not be taken at their face."""
    return Finding(
        correlation < BLIND,
        f"Below {BLIND:g} early rewards say next to nothing: taken at their face, as smc does, they would "
        "select at random.",
    )


def single_chain(particles: int, goal: Goal) -> Finding[bool]:
    """Whether to give up the population for one chain that keeps its best child.

    With 3 to 7 particles, 10 steps (mixtures): the mean of weighted ones was nearer to the tilted law's than
    that of such chains, and a chain's sample scored as high as the best of a sharp SMC.
    """
    if particles >= FEW:
        return Finding(False, "")
    few = f"{_count(particles)}, fewer than {FEW}"
    if goal == "search":
        return Finding(True, f"{few}: one chain that keeps the best child at every step finds as much.")
    return Finding(False, f"{few}: few, and still nearer to the tilted law with weights than a search is.")


def schedule_for(correlation: float, goal: Goal, particles: int) -> Finding[str]:
    """More particles where the reward is decided, if that is late or the evidence is wanted."""
    if particles < FEW:
        return Finding("flat", f"{_count(particles)} are too few to be moved between levels.")
    if goal == "evidence":
        return Finding("half", "For the evidence half of the particles go where the reward is decided.")
    if correlation < BLIND or (correlation < DECIDED and goal == "sample"):
        why = f"{correlation:.2f} is below {DECIDED:g}"
        return Finding("half", f"{why}: half of the particles go where the reward is decided.")
    return Finding("flat", "The number of particles stays the same over the levels.")


def drift_for(has_gradient: bool, particles: int) -> Finding[str]:
    """Which push costs no network call: along the gradient, towards the population's best, or none."""
    if has_gradient:
        return Finding("denoised", "The reward is differentiable: moves are pushed along its gradient.")
    if particles < FEW:
        return Finding("none", f"{_count(particles)} are no population to learn a push from; {FEW} are.")
    return Finding("population", "The reward has no gradient: moves are pushed towards what scores well.")


def scoring_for(rows_per_call: float, correlation: Sequence[float], spread: float) -> Finding[Scoring]:
    """Score an expensive reward only where it says something, and where a level adds to what is known.

    A level should gain ``max(LEAST_GAIN, 1 / spread^2)`` of squared correlation on average: m equal gains
    cost ``m (e^(spread^2 / m) - 1)`` in variance, so where calls take all the time the best m is
    spread^2 / 1.6, and variance times time at spread^2 is within 11 % of the best from 5 rows a call on.

    Args:
        rows_per_call: cost of a reward call in network rows.
        correlation: squared, of every level, not falling.
        spread: tilt times the reward's standard deviation.
    """
    takes = f"A reward call takes as long as {rows_per_call:.2g} network rows"
    if not rows_per_call > EXPENSIVE:
        return Finding(Scoring(1, None), f"{takes}: every level is scored.")
    least = max(LEAST_GAIN, 1 / spread**2 if spread > 0 else math.inf)
    end = len(correlation) - 1
    telling = [k for k, c in enumerate(correlation[:-1]) if c >= LEAST_GAIN and 1 - c >= LEAST_GAIN]
    first, last = (telling[0], telling[-1]) if telling else (end, end)
    count = max(1, math.floor((1 - correlation[first]) / least + 1e-9))
    every = max(1, math.ceil((end - first) / count))
    return Finding(
        Scoring(every, (first, last)),
        f"{takes}, more than {EXPENSIVE:g}: it is called every {every} levels from level {first} to {last} "
        f"and at the end, so that a call adds {least:.2g} of squared correlation or more on average.",
    )
