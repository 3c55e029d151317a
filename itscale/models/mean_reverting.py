"""A model of a mean-reverting diffusion, seen from its mean."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.wrapper import Wrapper
from itscale.types import State, Time


@dataclass(frozen=True, eq=False)
class MeanReverting(Wrapper):
    """A network trained on ``x_t = alpha x_1 + (1 - alpha) mean + sigma x_0``, for any solver.

    In the deviations ``x - mean`` of states and data this is an ordinary path with the same noise and the
    same velocity, so every solver, process and method applies as it is; published solvers for such processes
    are the ordinary ones in these coordinates. Samples are data again; ``result.states`` are deviations.

    Args:
        model: predicts in the states of the training, e.g. by ``models.wrap(...)`` on the path
            ``OrnsteinUhlenbeck()``.
        mean: what noise reverts to, shaped like an event: the degraded image in restoration.

    Reference:
        Luo et al. (2023), arXiv:2301.11699, for the process. Li et al. (2025), "MRS", arXiv:2502.07856, for
        solvers.
    """

    mean: Tensor

    def __post_init__(self) -> None:
        if tuple(self.mean.shape) != tuple(self.model.event_shape) or not bool(self.mean.isfinite().all()):
            raise ConfigError(
                f"mean must be finite and of the event's shape {tuple(self.model.event_shape)}, "
                f"got shape {tuple(self.mean.shape)}"
            )

    def predict(self, x: State, t: Time, condition: Tensor | None) -> State:
        mean = self.mean.to(x)
        raw = self.model.predict(x + mean, t, condition)
        return raw - mean if self.predicts == "denoised" else raw

    def decode(self, x: State) -> Tensor:
        return self.model.decode(x + self.mean.to(x))

    def to(self, device: torch.device | str) -> MeanReverting:
        return replace(self, model=self.model.to(device), mean=self.mean.to(device))
