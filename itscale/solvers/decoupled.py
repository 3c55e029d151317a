"""Moves through a draw of the data given the measurement, with their weights: DDSMC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from itscale.process import Evaluation
from itscale.solvers.base import Look, Move
from itscale.solvers.leg import Leg
from itscale.solvers.projections import MeasuredMove


@dataclass(frozen=True, eq=False)
class Decoupled(MeasuredMove):
    """What both kernels of DDSMC know: data given a state are ``N(X, r^2 I)`` around a reconstruction.

    Attributes:
        squares: ``r^2`` per level.
    """

    squares: tuple[float, ...] = ()

    def log_predictive(self, o: Tensor, level: int) -> Tensor:
        """``log N(ybar; X, tau^2 + r^2)`` over the measured coordinates of X, (rows,) float64."""
        o = o.double()
        variance = self.tau(o) ** 2 + self.squares[level]
        return -((self.value(o) - o).square() / variance + variance.log()).sum(1) / 2


@dataclass(frozen=True, eq=False)
class Reconstruct(Decoupled):
    """Leave the rows where they are and remember X, by the ODE or the denoised sample; weigh them by it.

    Attributes:
        legs: the ODE from every level to the data; None where the denoised sample will do.
    """

    legs: tuple[Leg | None, ...] = ()
    history: int = 1
    weighs: bool = True

    def is_noisy(self, level: int) -> bool:
        return False

    def extra_looks(self, level: int) -> int:
        leg = self.legs[level]
        return 0 if leg is None else leg.looks

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        leg = self.legs[level]
        centre = at.denoised if leg is None else leg(at, look)
        _, o = self.measured(centre)
        return Move(at.x, memory=(centre,), log_ratio=self.log_predictive(o, level))


@dataclass(frozen=True, eq=False)
class DecoupledStep(Decoupled):
    """``x' = alpha' x_1 + c (x - alpha x_1) / sigma + sqrt(sigma'^2 - c^2) e``, x_1 given the measurement.

    ``c = (1 - eta) sigma' s' / s``: with eta 0 as much of the noise stays as in an ancestral move, with 1
    none. The chain that it proposes for draws x_1 from ``N(X, r^2 I)``; both moves are Gaussian, and the
    weight is the ratio of their densities over the prediction that ``Reconstruct`` has put in. The last
    move is to x_1.

    Attributes:
        eta: how much noise is made anew.
    """

    eta: float = 0.5
    weighs: bool = True
    is_blind: bool = True

    def is_noisy(self, level: int) -> bool:
        return True

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move:
        assert isinstance(level, int)
        assert z is not None
        centre, square = history[0], self.squares[level]
        kept, on_data, spare = self._factors(level)
        mean = on_data * centre + kept * at.x
        wide = spare + on_data**2 * square
        _, o = self.measured(centre)
        v, m = self.measured(mean + wide**0.5 * z)
        _, plain = self.measured(mean)
        _, e = self.measured(z)
        tau2, value = self.tau(o).double() ** 2, self.value(o).double()
        gain = square / (square + tau2)
        narrow = spare + on_data**2 * tau2 * gain
        moved = plain.double() + on_data * gain * (value - o.double())
        drawn = moved + narrow.sqrt() * e.double()
        # log p - log q on the measured coordinates; elsewhere both are the same
        target = (drawn - plain.double()).square() / wide - e.double().square() - (narrow / wide).log()
        ratio = -target.sum(1) / 2 - self.log_predictive(o, level)
        return Move(self.replaced(v, drawn.to(m)), log_ratio=ratio)

    def _factors(self, level: int) -> tuple[float, float, float]:
        """On the state, on the data, and the variance of the noise in the next state."""
        alpha, sigma = self.alpha[level], self.sigma[level]
        ahead = self.sigma[level + 1]
        ratio = ahead / self.alpha[level + 1] * alpha / sigma  # s' / s, 0 at pure noise
        c = (1 - self.eta) * ahead * ratio
        return c / sigma, self.alpha[level + 1] - c * alpha / sigma, ahead**2 - c**2
