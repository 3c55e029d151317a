"""Several models in one trajectory: a small one where noise is high, a large one after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.grids import validate_grid
from itscale.interpolants import Interpolant
from itscale.models.base import Given, Model
from itscale.models.conditions import Encoding, is_same, rows_of
from itscale.models.guidance import GuidanceLike
from itscale.models.wrapper import changes_law
from itscale.types import State, Time


@dataclass(frozen=True, eq=False)
class Stitched:
    """Model ``i`` predicts up to and including time ``switches[i]``, the last one from there on.

    To samplers, methods and ledgers it is one model: looks and rows are counted as ever. What is saved shows
    in :meth:`row_cost`. The density of a transition is that of the model that made it. A solver that
    remembers carries its memory across a switch, whose first step then extrapolates the difference between
    the models too; switch where they agree (:func:`disagreement`).

    Reference:
        Pan et al. (2024), "T-Stitch: Accelerating Sampling in Pre-Trained Diffusion Models with Trajectory
        Stitching", arXiv:2402.14167. Its share of label time is ``switch`` here. Its image quality
        per share was not reproduced.
    """

    models: tuple[Model, ...]
    switches: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.models) < 2 or len(self.switches) != len(self.models) - 1:
            raise ConfigError(
                f"{len(self.models)} models need {max(len(self.models) - 1, 1)} switch times and at least 2 "
                f"models, got {len(self.switches)}"
            )
        inner = [float(s) for s in self.switches]
        if any(not 0 <= s <= 1 for s in inner) or any(a >= b for a, b in pairwise(inner)):
            raise ConfigError(
                f"switch must be a time in [0, 1], several must increase (0 is noise, 1 is data), got {inner}"
            )
        for name in ("interpolant", "predicts", "event_shape", "modality", "rows_per_look"):
            found = [getattr(model, name) for model in self.models]
            if any(value != found[0] for value in found):
                raise ConfigError(
                    f"stitched models must agree in {name}, got {found}: they share states and times. "
                    "Guidance belongs on the stitched model: stitched(...).given(condition, guidance)"
                )

    @property
    def interpolant(self) -> Interpolant:
        return self.models[-1].interpolant

    @property
    def predicts(self) -> Literal["velocity", "noise", "denoised", "v"]:
        return self.models[-1].predicts

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.models[-1].event_shape

    @property
    def modality(self) -> str:
        return self.models[-1].modality

    @property
    def rows_per_look(self) -> int:
        return self.models[-1].rows_per_look

    @property
    def changes_law(self) -> bool:
        return any(changes_law(model) for model in self.models)

    def encode(self, conditions: Sequence[Any]) -> Encoding | None:
        """Encode by the first model.

        Raises:
            ConfigError: if another one encodes differently, for then they cannot share conditions.
        """
        first, *others = (model.encode(conditions) for model in self.models)
        for other in others:
            if not is_same(first, other):
                raise ConfigError(
                    "stitched models must encode conditions alike; wrap one to take the other's"
                )
        return first

    def predict(self, x: State, t: Time, condition: Encoding | None) -> State:
        which = self.route(t)
        if which.ndim == 0 or bool((which == which[0]).all()):
            return self.models[int(which if which.ndim == 0 else which[0])].predict(x, t, condition)
        t, raw = torch.as_tensor(t, dtype=torch.float64), torch.empty_like(x)
        for i in which.unique().tolist():
            rows = (which == i).nonzero()[:, 0].to(x.device)
            own = None if condition is None else rows_of(condition, rows)
            raw[rows] = self.models[i].predict(x[rows], t[rows.to(t.device)], own)
        return raw

    def route(self, t: Time | float) -> Tensor:
        """Which model predicts at a time: its index, shaped as ``t``."""
        t = torch.as_tensor(t, dtype=torch.float64)
        return (t[..., None] > torch.tensor(self.switches, dtype=torch.float64, device=t.device)).sum(-1)

    def shares(self, times: Tensor) -> tuple[float, ...]:
        """Which part of a grid's looks each model makes, for a solver that looks once a step."""
        which = self.route(validate_grid(times)[:-1])
        return tuple(float((which == i).double().mean()) for i in range(len(self.models)))

    def row_cost(self, times: Tensor, costs: Sequence[float]) -> float:
        """Mean cost of a row over a grid, from the cost of a row of each model (seconds, multiply-adds).

        Raises:
            ConfigError: unless there is one positive number per model.
        """
        if len(costs) != len(self.models) or any(not 0 < c < math.inf for c in costs):
            raise ConfigError(f"costs must be {len(self.models)} positive numbers, got {list(costs)}")
        return sum(share * cost for share, cost in zip(self.shares(times), costs, strict=True))

    def decode(self, x: State) -> Tensor:
        return self.models[-1].decode(x)

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Given:
        return Given(self, condition, guidance)

    def to(self, device: torch.device | str) -> Stitched:
        return replace(self, models=tuple(model.to(device) for model in self.models))


def stitched(*models: Model, switch: float | Sequence[float]) -> Stitched:
    """Use ``early`` up to time ``switch`` and ``late`` from there on; more models take more switches.

    Args:
        models: of one path, prediction, event shape and encoding of conditions.
        switch: time in [0, 1] (0 noise, 1 data), or increasing times, one fewer than models.

    Raises:
        ConfigError: for models that differ in these, and for times out of order.

    Example:
        >>> from itscale.models import GaussianMixture
        >>> large = GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.5, 0.5])
        >>> small = GaussianMixture([1.0], [[0.0]], [2.06])
        >>> model = stitched(small, large, switch=0.4)
        >>> model.shares(torch.linspace(0, 1, 11, dtype=torch.float64))
        (0.5, 0.5)
    """
    return Stitched(models, tuple(switch) if isinstance(switch, Sequence) else (switch,))


def disagreement(
    small: Model, large: Model, unit: State, times: Tensor, condition: Tensor | None = None
) -> Float64[Tensor, " steps"]:
    """Where two models part: ``E |D_small - D_large|^2 / kappa^2`` at every time of a grid but the last.

    The states are those that ``large`` visits by DDIM. Some 64 of them do; switch before the values reach
    about 1e-3, a threshold from one mixture. Costs a row of either model per state and time.

    Args:
        unit: standard normals ``(rows, *event)``.
        times: a grid.
        condition: the encoding, one per row.

    Raises:
        ConfigError: for models that cannot be stitched, or a bad grid.
    """
    path, grid = Stitched((small, large), (0.0,)).interpolant, validate_grid(times)
    x, found = unit * float(path.sigma(grid[0])), []
    for now, after in pairwise(grid):
        c = interpolants.coefficients(path, now)
        raws = [model.predict(x, now, condition) for model in (small, large)]
        other, denoised = (interpolants.denoised(large.predicts, raw, x, c) for raw in raws)
        noise = interpolants.noise(large.predicts, raws[1], x, c)
        gap = (other - denoised).double().flatten(1).square().sum(1).mean()
        found.append(gap / path.kappa(now).to(gap) ** 2)
        x = float(path.alpha(after)) * denoised + float(path.sigma(after)) * noise
    return torch.stack(found).cpu()
