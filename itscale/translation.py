"""Cycle translation: data to noise by one model's ODE, noise to data by another's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.grids.kappa import karras_spacing
from itscale.interpolants import EDM
from itscale.models.base import Model
from itscale.models.conditions import repeated
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import Solver, get_solver
from itscale.solvers.march import march
from itscale.types import State


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Dual diffusion implicit bridges: no pairs, no training, and no randomness.

    The ODE is solved on the path ``edm`` from ``kappa_min`` to ``kappa_max`` (noise to signal) and back
    on a Karras grid; data is taken as the state at ``kappa_min``. The round trip through one model returns
    the data up to the solver's error: order 1 with DDIM, 3 with Heun, whose leading errors cancel.

    Attributes:
        steps: each way.
        solver: a deterministic solver without noise of its own.
        kappa_min, kappa_max: ends; both models must cover them.
        rho: of the grid.
        microbatch: rows at once.

    Reference:
        Su et al. (2023), "Dual Diffusion Implicit Bridges for Image-to-Image Translation", arXiv:2203.08382,
        Algorithm 1.
    """

    steps: int = 64
    solver: str | Solver = "heun"
    kappa_min: float = 0.002
    kappa_max: float = 80.0
    rho: float = 7.0
    microbatch: int = 256

    def __post_init__(self) -> None:
        for name in ("steps", "microbatch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be a whole number >= 1, got {value!r}")
        if not 0 < self.kappa_min < self.kappa_max < math.inf:
            raise ConfigError(
                f"translation needs 0 < kappa_min < kappa_max, got {self.kappa_min!r} and {self.kappa_max!r}"
            )
        if not self.rho > 0:
            raise ConfigError(f"rho must be positive, got {self.rho!r}")
        solver = get_solver(self.solver)
        if solver.is_stochastic or getattr(solver, "brings_noise", False):
            raise ConfigError(
                f"translation needs a solver of the ODE without noise, got {type(solver).__name__}: noise "
                "would not be undone on the way back; use 'heun' or 'dpm++2m'"
            )

    def encode(self, model: Model, x: State, condition: Any = None) -> State:
        """Return the unit noise that a model's ODE ties to the data ``x`` (rows, *event)."""
        return self._solve(model, x, condition, self._times().flip(0)) / self.kappa_max

    def decode(self, model: Model, unit: State, condition: Any = None) -> State:
        """Return the data that a model's ODE ties to unit noise (rows, *event)."""
        return self._solve(model, unit * self.kappa_max, condition, self._times())

    def __call__(
        self,
        x: State,
        source: Model,
        target: Model,
        *,
        condition: Any = None,
        target_condition: Any = None,
    ) -> State:
        """Translate data of ``source`` to ``target``; 2 steps evaluations of the solver a row and way."""
        return self.decode(target, self.encode(source, x, condition), target_condition)

    @property
    def _path(self) -> EDM:
        return EDM(sigma_max=self.kappa_max, sigma_min=self.kappa_min)

    def _times(self) -> Tensor:
        u = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        kappa = karras_spacing(u, self.kappa_max, self.kappa_min, self.rho)
        return self._path.t_of_kappa(kappa.clamp(self.kappa_min, self.kappa_max))

    @torch.no_grad()
    def _solve(self, model: Model, x: State, condition: Any, times: Tensor) -> State:
        if tuple(x.shape[1:]) != tuple(model.event_shape):
            raise ConfigError(f"x must be (rows, *{tuple(model.event_shape)}), got {tuple(x.shape)}")
        model = model.to(x.device)
        process = ContinuousProcess.of(model, ODE(interpolant=self._path))
        if process.t_start > 0:
            covered = float(self._path.kappa(process.t_start))
            raise ConfigError(
                f"the model covers sigma/alpha up to {covered:.4g}; set kappa_max to it or below"
            )
        # a kernel's last move is the jump to the data, which is never made here
        kernel = get_solver(self.solver).build(
            process, torch.cat([times, torch.ones(1, dtype=torch.float64)])
        )
        encoded = model.encode([condition])
        parts = []
        for part in x.split(self.microbatch):
            given = None if encoded is None else repeated(encoded.to(part.device), len(part))
            parts.append(march(process, kernel, times, part, given, self.steps))
        return torch.cat(parts)
