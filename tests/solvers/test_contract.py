"""Every solver against the battery, and faulty solvers that the battery must refuse."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from itscale.solvers import IPNDM, SOLVERS, Ancestral, DPMSolver2, DPMSolver2M
from tests.contracts.solvers import (
    CHECKS,
    EXEMPT,
    SOLVER_CASES,
    check_gaussian_claim,
    check_history_is_bounded,
    check_last_move_denoises,
    check_levels_per_row,
    check_looks_are_announced,
    check_noise_is_used_where_announced,
    check_order,
    check_sampling,
)

CASES = [(c, s) for c in CHECKS for s in SOLVER_CASES if (c.__name__, type(s)) not in EXEMPT]


@pytest.mark.parametrize(("check", "solver"), CASES, ids=lambda v: getattr(v, "__name__", repr(v)))
def test_contract(check, solver):
    check(solver)


def test_every_solver_of_the_table_is_in_the_battery():
    assert {type(s) for s in SOLVER_CASES} == set(SOLVERS.values())


@dataclass(frozen=True)
class HalfExtrapolation(DPMSolver2M):
    """The factor 1/2 of the two-step method lost: order 1."""

    def build(self, process, times):
        kernel = super().build(process, times)
        b = kernel.b.clone()
        extra = b[1, :, 1].clone()
        b[1, :, 0] -= extra
        b[1, :, 1] += extra
        return replace(kernel, b=b)


@dataclass(frozen=True)
class TooMuchNoise(Ancestral):
    """Noise scaled by a twentieth more than the transition's mean accounts for."""

    def build(self, process, times):
        kernel = super().build(process, times)
        return replace(kernel, c=1.05 * kernel.c)


@dataclass(frozen=True)
class WrongClaims(Ancestral):
    """Noisy to the end, with a deviation twice the real one, per-row levels one off, and a hidden memory."""

    def build(self, process, times):
        inner = super().build(process, times)

        @dataclass(frozen=True)
        class Kernel:
            gaussian: bool = True
            takes_levels: bool = True
            history: int = 1

            def is_noisy(self, level):
                return True

            def extra_looks(self, level):
                return 0

            def __call__(self, at, history, level, look, z):
                k = level if isinstance(level, int) else (level - 1).clamp(min=0)
                move = inner(at, (), k, look, z)
                shift = 1e-3 * history[-1] if history else 0.0
                return replace(move, x=move.x + shift, std=2 * move.std)

        return Kernel()


@dataclass(frozen=True)
class SecretLooks(DPMSolver2):
    """Looks twice where it says once."""

    def build(self, process, times):
        inner = super().build(process, times)

        @dataclass(frozen=True)
        class Kernel:
            gaussian: bool = False
            takes_levels: bool = False
            history: int = 0

            def is_noisy(self, level):
                return False

            def extra_looks(self, level):
                return inner.extra_looks(level)

            def __call__(self, at, history, level, look, z):
                if level == 2:
                    look(at.x, level)
                return inner(at, history, level, look, z)

        return Kernel()


@dataclass(frozen=True)
class AverageOfCompany(DPMSolver2M):
    """A step that depends on the rows it comes with."""

    def build(self, process, times):
        inner = super().build(process, times)

        @dataclass(frozen=True)
        class Kernel:
            gaussian: bool = False
            takes_levels: bool = False
            history: int = 1

            def is_noisy(self, level):
                return False

            def extra_looks(self, level):
                return 0

            def __call__(self, at, history, level, look, z):
                move = inner(at, history, level, look, z)
                return replace(move, x=move.x + 1e-6 * move.x.mean(dim=0))

        return Kernel()


@dataclass(frozen=True)
class ForgetsNoise(IPNDM):
    """Remembers denoised samples where it combines noises: driver and engine agree, the order falls."""

    def build(self, process, times):
        return replace(super().build(process, times), remember=None)


@pytest.mark.parametrize(
    ("check", "solver"),
    [
        (check_order, HalfExtrapolation()),
        (check_order, TooMuchNoise()),
        (check_last_move_denoises, WrongClaims()),
        (check_noise_is_used_where_announced, WrongClaims()),
        (check_gaussian_claim, WrongClaims()),
        (check_levels_per_row, WrongClaims()),
        (check_history_is_bounded, WrongClaims()),
        (check_looks_are_announced, SecretLooks()),
        (check_sampling, SecretLooks()),
        (check_sampling, AverageOfCompany()),
        (check_order, ForgetsNoise()),
    ],
    ids=lambda v: getattr(v, "__name__", type(v).__name__),
)
def test_battery_refuses_faulty_solvers(check, solver):
    with pytest.raises(AssertionError):
        check(solver)
