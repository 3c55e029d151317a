"""One comparison of an estimate with the truth."""

from __future__ import annotations

from dataclasses import dataclass

SIGMAS = 5.0
"""Standard errors that an estimate may be off: a right program fails one check in two million."""


@dataclass(frozen=True)
class Check:
    """An estimate beside its truth.

    Attributes:
        method: what was run, and on what.
        quantity: what was estimated.
        value, truth: the two numbers.
        standard_error: of the value; 0 where it is exact.
        tolerance: what the difference may be: 5 standard errors, and what the time grid is known to cost.
        passed: whether it is not more.
    """

    method: str
    quantity: str
    value: float
    truth: float
    standard_error: float
    tolerance: float
    passed: bool


def judge(
    method: str, quantity: str, value: float, truth: float, standard_error: float, allowance: float = 0.0
) -> Check:
    """Compare at 5 standard errors plus an allowance for the discretisation."""
    tolerance = SIGMAS * standard_error + allowance
    passed = abs(value - truth) <= tolerance  # NaN is not
    return Check(method, quantity, value, truth, standard_error, tolerance, passed)
