"""Log-density of samples under a model, by the probability-flow ODE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.interpolants import Coefficients
from itscale.models.base import Model
from itscale.models.conditions import Encoding
from itscale.noise import Address, Noise, Purpose
from itscale.types import State

EXACT_UP_TO = 64
"""Largest number of coordinates whose divergence is exact by default: one backward pass for each."""


class LogDensity(NamedTuple):
    """Log-densities of rows of samples and what they cost.

    Attributes:
        values: ``(rows,)``, in nats.
        standard_error: ``(rows,)``, of the divergence estimate alone: 0 when exact, NaN for one probe.
        model_rows: rows through the network.
        backward_rows: rows through its backward pass.
    """

    values: Float64[Tensor, " rows"]
    standard_error: Float64[Tensor, " rows"]
    model_rows: int
    backward_rows: int


def log_prob(
    model: Model,
    x: State,
    condition: Any = None,
    *,
    steps: int = 32,
    solver: Literal["rk4", "heun"] = "rk4",
    divergence: Literal["auto", "exact", "hutchinson"] = "auto",
    probes: int = 8,
    seed: int = 0,
    microbatch: int = 256,
) -> LogDensity:
    """Integrate the ODE from the data to the noise, and the divergence of its drift along the way.

    The integration variable is the angle ``theta = atan(sigma / alpha)``, in which every path is the
    quarter circle ``y = cos(theta) D + sin(theta) E`` with drift ``v / scale``, smooth up to both ends. It
    starts at the path's ``t_max``, so where that is before the end of the path, the density is that of data
    with noise of ``kappa(t_max)``, and ends at ``t_min``, where the sampler's start ``N(0, sigma^2)`` is
    taken for the law.

    The standard error of a Hutchinson estimate grows with the off-diagonal part of the Jacobian; its probes
    are kept along the trajectory, so that it is unbiased for the discretised integral.

    Args:
        model: a model of the continuous kind; ``model.given(...)`` for a guided one, whose "density" is that
            of its sampler.
        x: states ``(rows, *event)``, e.g. ``result.states``.
        condition: one for all rows, or a list with one per row.
        steps: of equal angle.
        solver: ``"rk4"``, four evaluations a step and order 4, or ``"heun"``, two and order 2.
        divergence: ``"exact"``, a backward pass per coordinate; ``"hutchinson"``, one per probe; ``"auto"``
            is exact up to 64 coordinates.
        probes: Rademacher probes per row.
        seed: of the probes; row i always gets the same ones.
        microbatch: rows at once.

    Raises:
        ConfigError: for settings that cannot work.

    Reference:
        Chen et al. (2018), "Neural Ordinary Differential Equations", arXiv:1806.07366, eq. (8); Grathwohl et
        al. (2019), "FFJORD", arXiv:1810.01367, section 3.1; Song et al. (2021), arXiv:2011.13456, eq. (39).
    """
    if not hasattr(model, "interpolant"):
        raise ConfigError(f"{type(model).__name__} has no path from noise to data, so it has no ODE density")
    event = tuple(model.event_shape)
    if tuple(x.shape[1:]) != event or not x.is_floating_point():
        raise ConfigError(f"x must be states (rows, {', '.join(map(str, event))}), got {tuple(x.shape)}")
    for name, value in (("steps", steps), ("probes", probes), ("microbatch", microbatch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a whole number >= 1, got {value!r}")
    if solver not in _STAGES:
        raise ConfigError(f"solver must be one of {', '.join(_STAGES)}, got {solver!r}")
    if divergence not in ("auto", "exact", "hutchinson"):
        raise ConfigError(f"divergence must be 'auto', 'exact' or 'hutchinson', got {divergence!r}")
    conditions = list(condition) if isinstance(condition, list | tuple) else [condition] * len(x)
    if len(conditions) != len(x):
        raise ConfigError(f"condition has {len(conditions)} entries for {len(x)} rows; give one each or one")
    if divergence == "auto":
        divergence = "exact" if math.prod(event) <= EXACT_UP_TO else "hutchinson"
    model = model.to(x.device)
    values, errors = [], []
    for start in range(0, len(x), microbatch):
        part = x[start : start + microbatch].detach()
        encoding = model.encode(conditions[start : start + microbatch])
        signs = _signs(part, start, probes, seed) if divergence == "hutchinson" else None
        estimates = _integrate(_Flow(model, encoding, signs), part, steps, _STAGES[solver])
        values.append(estimates.mean(dim=0))
        errors.append(_standard_error(estimates, exact=signs is None))
    evaluations = steps * len(_STAGES[solver]) * len(x)
    passes = math.prod(event) if divergence == "exact" else probes
    return LogDensity(
        torch.cat(values) if values else torch.empty(0, dtype=torch.float64),
        torch.cat(errors) if errors else torch.empty(0, dtype=torch.float64),
        evaluations * model.rows_per_look,
        evaluations * model.rows_per_look * passes,
    )


_STAGES: dict[str, tuple[tuple[float, float], ...]] = {
    "rk4": ((0.0, 1 / 6), (0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6)),
    "heun": ((0.0, 1 / 2), (1.0, 1 / 2)),
}
"""Per stage: how far along the step it looks, by the slope of the stage before, and its weight."""


@dataclass(frozen=True)
class _Flow:
    """The drift of ``y`` in ``theta`` and its divergence."""

    model: Model
    condition: Encoding | None
    probes: Tensor | None  # (probes, rows, *event), or None for the exact divergence

    def _at(self, theta: float) -> tuple[Tensor, Coefficients, float]:
        path = self.model.interpolant
        t = path.t_of_kappa(math.tan(theta)).clamp(path.t_min, path.t_max)
        c = interpolants.coefficients(path, t)
        return t, c, float((c.alpha**2 + c.sigma**2).sqrt())

    def __call__(self, y: Tensor, theta: float) -> tuple[Tensor, Tensor]:
        """Return the drift ``(rows, *event)`` and the divergence ``(probes or 1, rows)``."""
        t, c, scale = self._at(theta)
        with torch.enable_grad():
            y = y.detach().requires_grad_(True)
            x = scale * y
            condition = None if self.condition is None else self.condition.to(x.device)
            raw = self.model.predict(x, t, condition)
            kind = self.model.predicts
            clean, noise = interpolants.denoised(kind, raw, x, c), interpolants.noise(kind, raw, x, c)
            drift = interpolants.raw_from("v", clean, noise, c) / scale
            return drift.detach(), self._divergence(drift, y)

    def _divergence(self, drift: Tensor, y: Tensor) -> Tensor:
        if self.probes is not None:
            passes = [(torch.autograd.grad(drift, y, e, retain_graph=True)[0], e) for e in self.probes]
            return torch.stack([(g.double() * e.double()).flatten(1).sum(dim=1) for g, e in passes])
        flat = drift.flatten(1)
        total = torch.zeros(len(y), dtype=torch.float64, device=y.device)
        for i in range(flat.shape[1]):  # rows do not interact, so a sum over rows has their gradients
            (gradient,) = torch.autograd.grad(flat[:, i].sum(), y, retain_graph=True)
            total += gradient.flatten(1)[:, i].double()
        return total[None]


def _integrate(flow: _Flow, x: Tensor, steps: int, stages: tuple[tuple[float, float], ...]) -> Tensor:
    """Log-density of each row, once per probe, on the CPU."""
    path = flow.model.interpolant
    first, last = (math.atan(float(path.kappa(t))) for t in (path.t_max, path.t_min))
    h = (last - first) / steps
    dimension = math.prod(x.shape[1:])
    y = math.cos(first) * x
    log_density = torch.full((1, len(x)), dimension * math.log(math.cos(first)), dtype=torch.float64)
    log_density = log_density.to(x.device)
    for k in range(steps):
        theta, move, slope = first + k * h, torch.zeros_like(y), torch.zeros_like(y)
        for ahead, weight in stages:
            slope, divergence = flow(y + ahead * h * slope, theta + ahead * h)
            move += weight * slope
            log_density = log_density + weight * h * divergence
        y = y + h * move
    std = math.sin(last)  # of y at the noise end
    square = (y.double() / std).flatten(1).square().sum(dim=1)
    return (log_density - square / 2 - dimension * math.log(std * math.sqrt(2 * math.pi))).cpu()


def _signs(x: Tensor, start: int, probes: int, seed: int) -> Tensor:
    """Rademacher probes ``(probes, rows, *event)``, addressed by row and probe."""
    rows = torch.arange(start, start + len(x)).repeat(probes)
    draw = torch.arange(probes).repeat_interleave(len(x))
    zero = torch.zeros_like(rows)
    u = Noise(seed).uniform(Purpose.DIVERGENCE, Address(zero, zero, rows, draw), math.prod(x.shape[1:]))
    return torch.where(u < 0.5, -1.0, 1.0).to(x).reshape(probes, *x.shape)


def _standard_error(estimates: Tensor, exact: bool) -> Tensor:
    if exact:
        return torch.zeros(estimates.shape[1], dtype=torch.float64)
    if len(estimates) == 1:
        return torch.full((estimates.shape[1],), torch.nan, dtype=torch.float64)
    return estimates.std(dim=0) / math.sqrt(len(estimates))
