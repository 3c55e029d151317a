"""How typical a sample is under the model that made it: what steering may cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale import interpolants
from itscale.models.analytic import GaussianMixture
from itscale.models.composition import Composition
from itscale.noise import Address, Noise, Purpose
from itscale.process import Evaluation

LARGEST_STATE = 4096  # numbers; above it the figure would cost more than it tells
TIMES = tuple((i + 0.5) / 8 for i in range(8))

LOG_PROB = "log-density under the model"
DENOISING = "minus the model's denoising error on the sample"


def density_kind(model: Any) -> str | None:
    """Return what ``density`` measures for a model, None where it measures nothing."""
    if isinstance(model, Composition):
        return None
    if isinstance(model, GaussianMixture):
        return LOG_PROB
    if hasattr(model, "interpolant") and math.prod(model.event_shape) <= LARGEST_STATE:
        return DENOISING
    return None


def density_rows(model: Any, samples: int) -> int:
    """Return the network rows that ``density`` takes; they are accounted apart from a run's own."""
    return samples * len(TIMES) if density_kind(model) == DENOISING else 0


@torch.no_grad()
def density(model: Any, states: Tensor, conditions: Sequence[Any]) -> Float64[Tensor, " rows"] | None:
    """Return a figure per state that is larger for more typical ones, or None.

    The exact log-density of a mixture. Else, since a network's own density costs hundreds of passes, minus
    the mean square error of the model's noise prediction over eight noise levels, with the same noise for
    every sample: the loss it was trained on, which bounds the log-density up to weighting and a constant.
    Compare it between samples of one model only, and mind that simpler pictures are denoised better.

    Reference:
        Ho, Jain and Abbeel (2020), "Denoising Diffusion Probabilistic Models", arXiv:2006.11239, eq. (14).
    """
    kind = density_kind(model)
    if kind is None or not len(states):
        return None
    if kind == LOG_PROB:
        return model.to("cpu").log_prob(states.cpu()).double()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")  # as a pool does
    zero = torch.zeros(1, dtype=torch.int64)
    encoding = model.encode(list(conditions))
    if torch.cuda.is_available():
        states, encoding = states.cuda(), None if encoding is None else encoding.to("cuda")
    error = torch.zeros(len(states), dtype=torch.float64)
    for draw, t in enumerate(TIMES):
        address = Address(zero, zero, zero, zero + draw)
        noise = Noise(0).normal(Purpose.MOVE, address, tuple(model.event_shape), states.dtype).to(states)
        time = torch.tensor(t, dtype=torch.float64)
        c = interpolants.coefficients(model.interpolant, time)
        x = float(c.alpha) * states + float(c.sigma) * noise
        raw = model.predict(x, time, encoding)
        predicted = Evaluation(x, time, model.predicts, raw, model.interpolant).noise
        error += (predicted - noise).double().square().flatten(1).mean(dim=1).cpu()
    return -error / len(TIMES)
