"""The time label that a state's own variance asks for, and a model that is looked at there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.interpolants import Interpolant
from itscale.models.wrapper import Wrapper
from itscale.types import State, Time

LEAST_COORDINATES = 256  # below, the variance of one sample says too little
LABELS = 1000  # per unit of time, as in the tables the settings were published for


@dataclass(frozen=True, kw_only=True)
class VarianceLabel:
    """Choose, near the nominal time, the one whose variance is nearest the sample's own.

    Attributes:
        window: width of the search in time; 0 leaves labels alone.
        cutoff: no shift where the noise time ``1 - t`` is below.
        data_variance: mean variance of the data over the coordinates of one sample, so that the variance
            looked for is ``alpha^2 data_variance + sigma^2``; the published rule has 0.
    """

    window: float
    cutoff: float
    data_variance: float

    def __call__(self, path: Interpolant, x: State, t: Time) -> Float64[Tensor, " rows"]:
        """Times (rows,) for states whose nominal time is () or (rows,)."""
        nominal = t.expand(len(x))
        half = round(self.window * LABELS / 2)
        offsets = torch.arange(-half, half + 1, dtype=torch.float64) / LABELS
        candidates = (nominal[:, None] + offsets).clamp(path.t_min, path.t_max)
        expected = path.alpha(candidates) ** 2 * self.data_variance + path.sigma(candidates) ** 2
        found = x.flatten(1).double().var(dim=1).cpu()
        # the first of equal candidates would be the noisiest: prefer the nearest to the nominal time
        distance = (found[:, None] - expected).abs() + 1e-12 * offsets.abs()
        chosen = candidates.gather(1, distance.argmin(dim=1, keepdim=True))[:, 0]
        is_free = (1 - nominal > self.cutoff) & (nominal > path.t_min)  # pure noise is what it says
        return torch.where(is_free, chosen, nominal)


@dataclass(frozen=True, eq=False)
class LabelShifted(Wrapper):
    """A model asked at the label that fits each state; predicts the denoised sample it gives there."""

    rule: VarianceLabel
    changes_law: ClassVar[bool] = True

    @property
    def predicts(self) -> Literal["denoised"]:
        return "denoised"

    def predict(self, x: State, t: Time, condition: Tensor | None) -> State:
        label = self.rule(self.interpolant, x, torch.as_tensor(t, dtype=torch.float64))
        raw = self.model.predict(x, label, condition)
        c = interpolants.coefficients(self.interpolant, label)
        return interpolants.denoised(self.model.predicts, raw, x, c)


def check_rule(rule: VarianceLabel) -> None:
    """Raise ConfigError for settings that cannot work."""
    if not 0 <= rule.window < 1:
        raise ConfigError(f"window must be in [0, 1), a width in time, got {rule.window!r}")
    if not 0 <= rule.cutoff <= 1:
        raise ConfigError(f"cutoff must be in [0, 1], a noise time, got {rule.cutoff!r}")
    if not 0 <= rule.data_variance < math.inf:
        raise ConfigError(f"data_variance must be finite and >= 0, got {rule.data_variance!r}")
