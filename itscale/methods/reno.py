"""ReNO: gradient ascent on the initial noise."""

from __future__ import annotations

from dataclasses import dataclass

from itscale.ascent import Norm
from itscale.budget import Budget
from itscale.errors import ConfigError
from itscale.methods.base import Cost, Plan
from itscale.methods.noise_ascent import NoiseAscent


@dataclass(frozen=True, kw_only=True)
class ReNO(NoiseAscent):
    """N chains that climb the reward of the ODE's sample by their initial noise.

    The objective is ``tilt r(sample(z)) + weight ((d - 1) log|z| - |z|^2 / 2)``. It was made for models
    of one step, where an iteration is one evaluation, and works for any number.

    Steps are measured in noise, of which d numbers are about sqrt(d) long; one is at most
    ``rate clip / (1 - momentum)``. In a few dimensions lower ``rate``.

    Cost of I iterations with exact gradients and one evaluation a step: N (I T + (I - 1) (T - 1)) NFE (N I T
    without ``recompute``), N (I - 1) T backward rows, N I reward calls; zero-order with m directions:
    N (I + (I - 1) m) T NFE and N (I + (I - 1) m) reward calls. It is a search: no target, and the more
    iterations the further from the data.

    Attributes: see ``NoiseAscent``.

    Reference:
        Eyring et al. (2024), "ReNO: Enhancing One-step Text-to-Image Models through Reward-based Noise
        Optimization", arXiv:2406.04312, with its defaults.
    """

    @property
    def penalty(self) -> Norm:
        return Norm()

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        if any(cost.noisy):
            raise ConfigError(
                "ReNO optimises the initial noise, and this process adds noise on the way; use "
                "process=ODE(), or method='dno'"
            )
        return super().plan(cost, budget)
