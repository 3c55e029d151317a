"""What every path from noise to data offers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import torch

from itscale.errors import ConfigError
from itscale.types import Time


@runtime_checkable
class Interpolant(Protocol):
    """The path ``x_t = alpha(t) x_1 + sigma(t) x_0`` with data ``x_1`` and ``x_0 ~ N(0, I)``.

    Time runs from 0 (noise) to 1 (data): ``alpha`` never falls, ``sigma`` never rises and
    ``kappa = sigma / alpha`` falls strictly. Every method takes a float or a tensor of shape ``()``
    or ``(rows,)`` and returns a float64 tensor of that shape. All methods may be differentiated by autograd.

    A path of one's own inherits this class and states the seven abstract members.
    """

    @property
    def t_min(self) -> float:
        """The first time at which everything below is finite: the noise end."""
        return 0.0

    @property
    @abstractmethod
    def t_max(self) -> float:
        """The last time at which a model may be asked: derivatives finite, path covered by its training."""

    @abstractmethod
    def alpha(self, t: Time | float) -> Time:
        """Weight of the data."""

    @abstractmethod
    def sigma(self, t: Time | float) -> Time:
        """Weight of the noise."""

    @abstractmethod
    def d_alpha(self, t: Time | float) -> Time:
        """Derivative of ``alpha``, >= 0."""

    @abstractmethod
    def d_sigma(self, t: Time | float) -> Time:
        """Derivative of ``sigma``, <= 0; may be ``-inf`` after ``t_max``."""

    @abstractmethod
    def t_of_kappa(self, kappa: Time | float) -> Time:
        """Time at which ``sigma / alpha`` is ``kappa``; ``inf`` is allowed where ``alpha(0) = 0``.

        Raises:
            ConfigError: if the path never has this noise-to-signal ratio.
        """

    def wronskian(self, t: Time | float) -> Time:
        """``alpha' sigma - alpha sigma'``: positive on the whole path, a sum of two terms >= 0."""
        return self.d_alpha(t) * self.sigma(t) - self.alpha(t) * self.d_sigma(t)

    def kappa(self, t: Time | float) -> Time:
        """Noise-to-signal ratio ``sigma / alpha``, the "sigma" of EDM; ``inf`` where ``alpha = 0``."""
        return self.sigma(t) / self.alpha(t)

    def log_snr(self, t: Time | float) -> Time:
        """``log(alpha / sigma)``, half the logarithm of the signal-to-noise ratio of the powers."""
        return torch.log(self.alpha(t)) - torch.log(self.sigma(t))


def as_time(t: Time | float) -> Time:
    """Bring a float, or a tensor of any float type, to a float64 tensor."""
    return torch.as_tensor(t, dtype=torch.float64)


def clip_kappa(interpolant: Interpolant, kappa: Time | float) -> Time:
    """Bring ratios outside the path by rounding alone (1e-9 relative) back onto it; refuse any other.

    Raises:
        ConfigError: if a ratio is NaN or outside ``[kappa(1), kappa(0)]``.
    """
    kappa = as_time(kappa)
    low, high = interpolant.kappa(1.0), interpolant.kappa(interpolant.t_min)
    inside = (kappa >= low * (1 - 1e-9)) & (kappa <= high * (1 + 1e-9))
    if not bool(inside.all()):
        raise ConfigError(
            f"{type(interpolant).__name__} has noise-to-signal ratios sigma/alpha from {float(high):.6g} at "
            f"t = 0 to {float(low):.6g} at t = 1, got {kappa[~inside].flatten()[:3].tolist()}; "
            "choose t_start (or the grid's kappa_max) so that the whole grid lies inside"
        )
    return kappa.clamp(low.to(kappa.device), high.to(kappa.device))
