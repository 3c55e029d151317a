"""The whole battery, in three sizes."""

from __future__ import annotations

from itscale.verify.check import Check
from itscale.verify.composed import composed_laws
from itscale.verify.ground import marginals, random_numbers, resampling
from itscale.verify.masked import masked_laws
from itscale.verify.posterior import posteriors
from itscale.verify.tilted import problem, tilted_laws


def run_battery(quick: bool = False, full: bool = False) -> list[Check]:
    """Check random numbers, resampling, marginals, compositions, and every method that claims a target.

    Methods that are searches claim nothing and are not judged. Seeds are fixed: the outcome is the same
    every time on one machine.

    Args:
        quick: two problems, five methods; well under a minute on two cores.
        full: four times the groups of the default: half the standard errors.
    """
    tilts = (1.0,) if quick else (1.0, 3.0)
    problems = [problem(kind, tilt) for tilt in tilts for kind in ("linear", "quadratic")]
    groups = 96 if quick else 512 if full else 128
    checks = random_numbers()
    checks += resampling(20_000 if quick else 200_000)
    checks += marginals(20_000 if quick else 100_000)
    checks += composed_laws(particles=256, groups=groups, quick=quick)
    checks += posteriors(particles=64, groups=groups, quick=quick)
    checks += masked_laws(particles=256, groups=groups, quick=quick)
    return checks + tilted_laws(problems, particles=256, groups=groups, quick=quick)
