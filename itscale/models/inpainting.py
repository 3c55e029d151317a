"""A part of every sample is known: the model is told so wherever it is asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.models.conditions import Encoding
from itscale.models.wrapper import Wrapper
from itscale.types import State, Time


@dataclass(frozen=True, eq=False)
class Inpainted(Wrapper):
    """A model whose denoised sample is ``known`` wherever ``mask`` is 0.

    The noise that goes with it follows from the state, so that the known part moves along its own noise to
    the known values: with the ODE this is the replacement that inpainting pipelines do after every step.
    What is known does not inform the rest beyond what the network sees of it; methods that weigh by a
    likelihood do (``itscale.operators``).

    Attributes:
        known: states, ``event_shape``; of an image what ``encode_image`` returns.
        mask: 1 where to generate and 0 where it is known, broadcast to ``event_shape``.

    Reference:
        Lugmayr et al. (2022), "RePaint", arXiv:2201.09865, eq. (8), with one noise for the whole run.
    """

    known: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        event = tuple(self.model.event_shape)
        try:
            shape = torch.broadcast_shapes(tuple(self.mask.shape), tuple(self.known.shape))
        except RuntimeError:
            shape = None
        if shape != event or not bool(((self.mask >= 0) & (self.mask <= 1)).all()):
            raise ConfigError(
                f"known {tuple(self.known.shape)} and mask {tuple(self.mask.shape)}, between 0 and 1, must "
                "broadcast "
                f"to the states' shape {event}"
            )

    @property
    def predicts(self):  # type: ignore[override]
        return "denoised"

    def predict(self, x: State, t: Time, condition: Encoding | None) -> State:
        raw = self.model.predict(x, t, condition)
        c = interpolants.coefficients(self.model.interpolant, t)
        free = interpolants.denoised(self.model.predicts, raw, x, c)
        return torch.lerp(self.known.to(x), free, self.mask.to(x).expand_as(free))
