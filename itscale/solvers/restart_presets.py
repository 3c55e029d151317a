"""Published Restart settings by name, with the number of evaluations that each states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from itscale.errors import unknown_name
from itscale.grids import Grid
from itscale.grids.kappa import Karras
from itscale.interpolants import EDM, Interpolant
from itscale.process import ODE
from itscale.solvers.ddim import DDIM
from itscale.solvers.dpm_solver import DPMSolver3S
from itscale.solvers.heun import Heun
from itscale.solvers.restart import Interval, Restart

_EDM = EDM()


@dataclass(frozen=True)
class RestartPreset:
    """A Restart solver with the steps, the grid and the path that it was published for.

    Attributes:
        steps: of the main solver.
        solver: the Restart.
        nfe: evaluations per sample.
        interpolant: path of the run; None is the model's own.
        grid: of the main solver.
    """

    steps: int
    solver: Restart
    nfe: int
    interpolant: Interpolant | None = _EDM
    grid: str | Grid = "karras"

    def settings(self) -> dict[str, Any]:
        """Arguments of ``itscale.sample``: ``sample(model, **restart_preset(name).settings())``."""
        return {
            "process": ODE(interpolant=self.interpolant),
            "solver": self.solver,
            "steps": self.steps,
            "grid": self.grid,
        }


def _of(
    *levels: tuple[int, int, float, float], scale: float = 1.0, main: Any = None, inner: Any = None
) -> Restart:
    """Levels as published: (points, repeats, kappa_min, kappa_max)."""
    intervals = [Interval(points=n, repeats=k, kappa_min=a, kappa_max=b) for n, k, a, b in levels]
    heun: Any = Heun()
    return Restart(
        tuple(intervals), main=main or heun, inner=inner or heun, noise_scale=scale, overlapping=True
    )


def _by_dpm_solver_3(steps: int, kappa_max: float) -> RestartPreset:
    """DPM-Solver-3 in main steps and cycle, on the Karras grid between the ends of the VP path."""
    solver = _of((3, 1, 0.06, kappa_max), main=DPMSolver3S(second_order_end=True), inner=DPMSolver3S())
    return RestartPreset(steps, solver, 3 * steps + 3, None, Karras(kappa_max=152.2, kappa_min=0.0105))


_IMAGENET: dict[int, tuple[int, tuple[tuple[int, int, float, float], ...]]] = {
    39: (14, ((3, 1, 19.35, 40.79), (3, 1, 1.09, 1.92), (3, 1, 0.06, 0.30))),
    67: (18, ((5, 1, 19.35, 40.79), (5, 1, 1.09, 1.92), (5, 1, 0.59, 1.09), (5, 1, 0.06, 0.30))),
    99: (
        18,
        (
            (3, 1, 19.35, 40.79),
            (4, 1, 1.09, 1.92),
            (4, 4, 0.59, 1.09),
            (4, 1, 0.30, 0.59),
            (4, 4, 0.06, 0.30),
        ),
    ),
    165: (
        18,
        (
            (3, 1, 19.35, 40.79),
            (4, 1, 1.09, 1.92),
            (4, 5, 0.59, 1.09),
            (4, 5, 0.30, 0.59),
            (4, 10, 0.06, 0.30),
        ),
    ),
    203: (
        36,
        (
            (4, 1, 19.35, 40.79),
            (4, 1, 1.09, 1.92),
            (4, 5, 0.59, 1.09),
            (4, 5, 0.30, 0.59),
            (6, 6, 0.06, 0.30),
        ),
    ),
    385: (
        36,
        (
            (3, 1, 19.35, 40.79),
            (6, 1, 1.09, 1.92),
            (6, 5, 0.59, 1.09),
            (6, 5, 0.30, 0.59),
            (6, 20, 0.06, 0.30),
        ),
    ),
    535: (
        36,
        (
            (6, 1, 19.35, 40.79),
            (6, 1, 1.09, 1.92),
            (7, 6, 0.59, 1.09),
            (7, 6, 0.30, 0.59),
            (7, 25, 0.06, 0.30),
        ),
    ),
    623: (
        36,
        (
            (10, 3, 19.35, 40.79),
            (10, 3, 1.09, 1.92),
            (7, 6, 0.59, 1.09),
            (7, 6, 0.30, 0.59),
            (7, 25, 0.06, 0.30),
        ),
    ),
}

RESTART_PRESETS: dict[str, RestartPreset] = {
    **{
        f"cifar10-vp-{nfe}": RestartPreset(18, _of((3, k, 0.06, 0.30)), nfe)
        for nfe, k in ((43, 2), (55, 5), (75, 10), (115, 20))
    },
    "cifar10-vp-519": RestartPreset(20, _of((9, 30, 0.06, 0.20)), 519),
    # DPM-Solver-3 inside: from the released scripts alone, which multiply the noise of the jump by 1.003 as
    # for ImageNet; without it, as in the other settings of CIFAR-10. 27 is read off a folder's name there.
    **{
        f"cifar10-vp-{3 * steps + 3}": _by_dpm_solver_3(steps, top)
        for steps, top in ((5, 1.0), (6, 1.0), (7, 1.0), (8, 0.30))
    },
    "cifar10-edm-43": RestartPreset(18, _of((3, 2, 0.14, 0.30)), 43),
    **{
        f"imagenet64-edm-{nfe}": RestartPreset(steps, _of(*levels, scale=1.003), nfe)
        for nfe, (steps, levels) in _IMAGENET.items()
    },
    # Stable Diffusion 1.5 by guidance weight: DDIM with Heun inside; an evaluation is two guided rows.
    # A departure: its grid was uniform in labels; a Karras grid has a level near 0.1 always.
    "stable-diffusion-2": RestartPreset(30, _of((5, 2, 1.0, 9.0), (5, 2, 5.0, 10.0), main=DDIM()), 62, None),
    "stable-diffusion-3": RestartPreset(30, _of((10, 2, 0.1, 3.0), main=DDIM()), 66, None),
    "stable-diffusion-5": RestartPreset(30, _of((10, 2, 0.1, 2.0), main=DDIM()), 66, None),
    "stable-diffusion-8": RestartPreset(30, _of((10, 2, 0.1, 2.0), main=DDIM()), 66, None),
}
"""Xu et al. (2023), arXiv:2306.14878: its tables, compared with the parameter files of its code."""


def restart_preset(name: str) -> RestartPreset:
    """Return a published setting by name.

    Raises:
        UnknownName: if there is none of this name.
    """
    if name not in RESTART_PRESETS:
        raise unknown_name("Restart setting", name, RESTART_PRESETS)
    return RESTART_PRESETS[name]
