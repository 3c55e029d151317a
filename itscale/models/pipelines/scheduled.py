"""A pipeline's scheduler, read: where it looks, what it calls it, where it starts and ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.interpolants import Interpolant, Table
from itscale.models.conditions import Encoding
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.paths import is_flow
from itscale.models.wrapper import Wrapper
from itscale.types import State, Time

ROUNDING = 1e-5
"""How far, relatively, a noise level in float32 may lie outside its own table."""


@dataclass(frozen=True)
class Looks:
    """The looks of a scheduler at so many steps.

    Attributes:
        times: where it looks, then 1.
        labels: what the network is told at each look.
        start_std: standard deviation of the state that it starts from.
        left: noise-to-signal ratio that it leaves in what it hands over, 0 for none.
    """

    times: Float64[Tensor, " levels"]
    labels: Float32[Tensor, " looks"]
    start_std: float
    left: float


def read_looks(model: PipelineModel, steps: int) -> Looks:
    """Read a scheduler's times as the pipeline's own call would set them."""
    scheduler = model.scheduler(steps)
    path = model.interpolant
    labels = torch.as_tensor(scheduler.timesteps, device="cpu")
    stride = int(getattr(scheduler, "order", 1))
    sigmas = model.noise_levels(scheduler)
    left = 0.0
    if sigmas is None:
        if not isinstance(path, Table):
            raise ConfigError(
                f"{type(scheduler).__name__} states no times that are known; use another solver"
            )
        n = len(path.alphas_bar)
        labels = labels.unique_consecutive()  # PNDM's first step looks ahead, at a level listed twice
        times = (n - 1 - labels.double()) / n
        final = float(getattr(scheduler, "final_alpha_cumprod", 1.0))
        left = math.sqrt((1 - final) / final)
    else:
        sigmas = torch.as_tensor(sigmas, device="cpu", dtype=torch.float64)
        levels, left = sigmas[:-1], float(sigmas[-1])
        # a scheduler of two evaluations a step lists every level but the first twice
        levels, labels = (torch.cat([v[:1], v[1::2]]) if stride == 2 else v for v in (levels, labels))
        times = 1 - levels if is_flow(scheduler) else path.t_of_kappa(_onto(path, levels))
    start = float(getattr(scheduler, "init_noise_sigma", 1.0))
    if _is_unscaled(scheduler):
        start *= float(path.alpha(times[0]))
    ends = torch.ones(1, dtype=torch.float64)
    return Looks(torch.cat([times, ends]), labels.float(), start, left)


def _onto(path: Interpolant, kappa: Tensor) -> Tensor:
    """Bring levels that float32 has put a little outside the path back onto it."""
    low, high = float(path.kappa(1.0)), float(path.kappa(path.t_min))
    near = (kappa > low * (1 - ROUNDING)) & (kappa < high * (1 + ROUNDING))
    return torch.where(near, kappa.clamp(low, high), kappa)


def _is_unscaled(scheduler: Any) -> bool:
    """Whether states are those of the variance-exploding path, brought to scale for the network alone."""
    return not is_flow(scheduler) and type(scheduler).__name__ in UNSCALED


UNSCALED = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
)


@dataclass(frozen=True, eq=False)
class ScheduledModel(Wrapper):
    """A pipeline asked as its scheduler asks it.

    The network is told the scheduler's own labels, which some round. Where the scheduler leaves noise in what
    it hands over, the last look means that, so that the last step, a jump to it, is the scheduler's.
    """

    looks: Looks
    clip: float | None = None

    @property
    def pipeline(self) -> PipelineModel:
        """The pipeline's adapter."""
        assert isinstance(self.model, PipelineModel)
        return self.model

    @property
    def predicts(self) -> Any:
        return self.model.predicts if self.clip is None else "denoised"

    @property
    def start_std(self) -> float:
        return self.looks.start_std

    def predict(self, x: State, t: Time, condition: Encoding | None) -> State:
        t = torch.as_tensor(t, dtype=torch.float64)
        which = (self.looks.times[:-1] - t[..., None]).abs().argmin(dim=-1)
        raw = self.pipeline.predict_at(x, t, self.looks.labels[which], condition)
        if self.clip is not None:
            c = interpolants.coefficients(self.interpolant, t)
            clean = interpolants.denoised(self.model.predicts, raw, x, c)
            return clean.clamp(-self.clip, self.clip)
        if not self.looks.left or which.ndim or int(which) < len(self.looks.labels) - 1:
            return raw
        c, kind = interpolants.coefficients(self.interpolant, t), self.model.predicts
        clean, noise = (f(kind, raw, x, c) for f in (interpolants.denoised, interpolants.noise))
        alpha = 1 / math.hypot(1.0, self.looks.left)
        end = alpha * clean + alpha * self.looks.left * noise
        rest = (x - float(c.alpha) * end) / float(c.sigma)
        return interpolants.raw_from(kind, end, rest, c)

    def to(self, device: torch.device | str) -> ScheduledModel:
        self.model.to(device)
        return self
