"""In-betweening: the frames between two given ones, by a model that continues a first frame, run in both
directions."""

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
from itscale.models.conditions import Encoding, repeated
from itscale.noise import Address, Noise, Purpose
from itscale.process import ODE, ContinuousProcess
from itscale.types import State


@dataclass(frozen=True, kw_only=True)
class Inbetweening:
    """Bidirectional sampling between a first and a last frame, by turns from either end.

    At every level the model continues the first frame, the last frame of the denoised video is replaced
    by the one given, and an Euler step follows; then noise brings the state back, the video is turned round,
    continued from the last frame with the first one replaced, and stepped again. A model that knows nothing
    of last frames so meets both. No target law.

    Cost: 2 steps NFE a video; with ``guidance`` each is two rows.

    Attributes:
        steps: levels.
        axis: of the frames, among the axes of one state.
        kappa_min, kappa_max: ends of the Karras grid of noise-to-signal ratios.
        rho: of the grid.
        guidance: scale of classifier-free guidance: the video is denoised with it, and the noise of the step
            is what the model sees without a condition (CFG++). None takes the conditional model for both.

    Reference:
        Yang et al. (2024), "ViBiDSampler: Enhancing Video Interpolation Using Bidirectional Diffusion
        Sampler", arXiv:2410.05651, Algorithm 1, with an exact replacement of the frame.
    """

    steps: int = 25
    axis: int = 0
    kappa_min: float = 0.002
    kappa_max: float = 80.0
    rho: float = 7.0
    guidance: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 2:
            raise ConfigError(f"steps must be a whole number >= 2, got {self.steps!r}")
        if not 0 < self.kappa_min < self.kappa_max < math.inf:
            raise ConfigError(
                f"in-betweening needs 0 < kappa_min < kappa_max, got {self.kappa_min!r} and "
                f"{self.kappa_max!r}"
            )

    @torch.no_grad()
    def __call__(
        self,
        model: Model,
        first: Tensor,
        last: Tensor,
        *,
        first_condition: Any = None,
        last_condition: Any = None,
        n: int = 1,
        seed: int = 0,
    ) -> State:
        """Return ``n`` videos (n, *event).

        Args:
            model: continues the frame that its condition says.
            first, last: frames as states hold them, without the axis of frames; the work is done where
                they are.
            first_condition, last_condition: what the model is given for each; None gives the frames
            themselves.
        """
        axis = self._axis(model, first, last)
        device = first.device
        process = ContinuousProcess.of(model.to(device), ODE(interpolant=self._path))
        start = first if first_condition is None else first_condition
        end = last if last_condition is None else last_condition
        given = [_encoded(model, condition, device) for condition in (start, end)]
        null = None if self.guidance is None else _encoded(model, None, device)
        times = self._times()
        kappa = [float(self._path.kappa(t)) for t in times] + [0.0]
        noise = Noise(seed)
        event = tuple(model.event_shape)
        z = kappa[0] * self._normal(noise, n, 0, event).to(device)
        for k, t in enumerate(times):
            here, ahead = kappa[k], kappa[k + 1]
            once = self._stepped(process, z, t, given[0], null, last, axis, here, ahead)
            fresh = self._normal(noise, n, k + 1, event).to(device)
            turned = (once + math.sqrt(here**2 - ahead**2) * fresh).flip(axis)
            z = self._stepped(process, turned, t, given[1], null, first, axis, here, ahead).flip(axis)
        return z

    def _stepped(
        self,
        process: ContinuousProcess,
        z: State,
        t: Tensor,
        given: Encoding | None,
        null: Encoding | None,
        far: Tensor,
        axis: int,
        here: float,
        ahead: float,
    ) -> State:
        """Denoise, put the far frame in place, and take an Euler step towards that."""
        condition = None if given is None else repeated(given, len(z))
        d = plain = process.evaluate(z, t, condition).denoised
        if self.guidance is not None:
            plain = process.evaluate(z, t, None if null is None else repeated(null, len(z))).denoised
            d = plain + self.guidance * (d - plain)
        index = torch.tensor([d.shape[axis] - 1], device=d.device)
        goal = d.index_copy(axis, index, far.to(d).expand(len(d), *far.shape).unsqueeze(axis))
        return goal + ahead / here * (z - plain)

    def _axis(self, model: Model, first: Tensor, last: Tensor) -> int:
        event = tuple(model.event_shape)
        if not -len(event) <= self.axis < len(event):
            raise ConfigError(f"axis {self.axis} is no axis of states {event}")
        axis = self.axis % len(event)
        frame = event[:axis] + event[axis + 1 :]
        for name, given in (("first", first), ("last", last)):
            if tuple(given.shape) != frame:
                raise ConfigError(f"{name} must be a frame {frame}, got {tuple(given.shape)}")
        if event[axis] < 3:
            raise ConfigError(
                f"states {event} have {event[axis]} frames along axis {axis}; there is nothing between"
            )
        return axis + 1

    @property
    def _path(self) -> EDM:
        return EDM(sigma_max=self.kappa_max, sigma_min=self.kappa_min)

    def _times(self) -> Tensor:
        u = torch.linspace(0, 1, self.steps, dtype=torch.float64)
        kappa = karras_spacing(u, self.kappa_max, self.kappa_min, self.rho)
        return self._path.t_of_kappa(kappa.clamp(self.kappa_min, self.kappa_max))

    def _normal(self, noise: Noise, n: int, move: int, event: tuple[int, ...]) -> Tensor:
        zero, slot = torch.zeros(n, dtype=torch.int64), torch.arange(n)
        return noise.normal(Purpose.USER, Address(zero, zero + move, slot, zero), event, torch.float32)


def _encoded(model: Model, condition: Any, device: torch.device) -> Encoding | None:
    encoding = model.encode([condition])
    return None if encoding is None else encoding.to(device)
