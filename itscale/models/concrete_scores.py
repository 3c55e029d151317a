"""Networks that give ratios of probabilities (concrete scores, SEDD) as masked models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from itscale.errors import ConfigError


class ConcreteScores(nn.Module):
    """Laws of clean tokens from ratios, for ``wrap_masked(ConcreteScores(network, ...), ...)``.

    A network that was trained on score entropy gives ``log s(x)_v = log p_t(x with v at i) - log p_t(x)`` at
    every position. Where positions are hidden, ``s_v = a / (1 - a) p(v | visible)``: its law is the ratios
    made to sum to one, and a time is not needed. Under uniform noise, with c = (1 - a) / V and S the sum of
    a position's ratios, its own counted as 1, ::

        p(w | x) = (s_w - c S) q(x_i | w) / a,    q(x_i | w) = a [x_i = w] + c.

    Args:
        network: called as ``network(x)``, or ``network(x, t=t)`` for uniform noise; returns (rows, length, V)
            logarithms of ratios.
        noise: ``"mask"`` or ``"uniform"``, as for ``wrap_masked``; the latter needs ``time=True`` there.
        clean: the clean share a at a time, under uniform noise; ``process.Masking``'s is ``a = t``.

    Raises:
        ConfigError: for another noise.

    Example:
        >>> hidden = ConcreteScores(lambda x: torch.zeros(*x.shape, 4))
        >>> hidden(torch.full((1, 3), 4)).exp()[0, 0]
        tensor([0.2500, 0.2500, 0.2500, 0.2500], dtype=torch.float64)

    Reference:
        Lou, Meng and Ermon (2024), "Discrete Diffusion Modeling by Estimating the Ratios of the Data
        Distribution", arXiv:2310.16834.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        *,
        noise: Literal["mask", "uniform"] = "mask",
        clean: Callable[[float], float] = float,
    ) -> None:
        super().__init__()
        if noise not in ("mask", "uniform"):
            raise ConfigError(f"noise must be 'mask' or 'uniform', got {noise!r}")
        self.network, self.noise, self.clean = network, noise, clean

    def forward(
        self, x: Int64[Tensor, "rows length"], t: Float[Tensor, " rows"] | None = None
    ) -> Float[Tensor, "rows length vocabulary"]:
        """Log-probabilities of clean tokens."""
        if self.noise == "mask":
            return torch.log_softmax(self.network(x).double(), dim=-1)
        if t is None:
            raise ConfigError("ratios under uniform noise need the time: wrap_masked(..., time=True)")
        times, place = t.double().unique(return_inverse=True)
        shares = torch.tensor([self.clean(u) for u in times.tolist()], dtype=torch.float64)
        a = shares.to(x.device)[place][:, None, None]
        ratios = self.network(x, t=t).double().exp()
        size = ratios.shape[-1]
        is_own = torch.arange(size, device=x.device) == x[..., None]
        ratios = torch.where(is_own, 1.0, ratios)
        c = (1 - a) / size
        # at pure noise (a = 0) every clean token is as likely as the network's errors say: all alike
        odds = ratios - c * ratios.sum(dim=-1, keepdim=True)
        law = (odds * (a * is_own + c)).clamp(min=0)
        total = law.sum(dim=-1, keepdim=True)
        law = torch.where(total > 1e-12 * size, law / total.clamp(min=1e-300), 1 / size)
        return law.clamp(min=1e-300).log()
