"""Denoising MCMC: Langevin moves over states and noise levels near the data, then a short way down."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.grids.kappa import karras_spacing
from itscale.interpolants import EDM
from itscale.models.base import Model
from itscale.models.conditions import repeated
from itscale.noise import Address, Noise, Purpose
from itscale.process import ODE, ContinuousProcess
from itscale.types import State, expand_over_event

LevelPosterior = Callable[[State], Float64[Tensor, "rows levels"]]
"""Log-probabilities of the noise levels given a state, up to a constant per row: a classifier of levels."""


class Samples(NamedTuple):
    """Samples (chains, draws, *event), and evaluations per chain."""

    samples: Tensor
    nfe: int


@dataclass(frozen=True, kw_only=True)
class DenoisingMCMC:
    """Chains on the product of states and noise levels; every ``moves`` moves one state is denoised.

    Langevin moves of a fixed step and Gibbs moves of the level leave ``p(kappa) p_kappa(y)`` nearly invariant
    (the moves are not adjusted). Samples of one chain are correlated, and the law is approximate even with an
    exact model. Cost per chain: ``2 start + burn_in`` at first, then ``moves + 2 points + 1`` a sample.

    The published choice takes the likeliest level and denoises the least noisy state of each block: two
    biases that partly cancel. Drawing the level and keeping the last state, the default, has neither.

    Attributes:
        step: of Langevin moves, in the units of the data squared: ``y + step/2 score + sqrt(step) z``.
        moves: between samples.
        levels, kappa_min, kappa_max: noise levels, uniform in their logarithm.
        points: Heun steps from a state's own level down to ``kappa_end``, before it is denoised.
        burn_in: moves before the first block.
        start: Heun steps of the run that gives the chains' first states.
        level: ``"draw"`` or ``"likeliest"``.
        keep: ``"last"`` or ``"least"`` noisy state of a block.

    Reference:
        Kim and Ye (2023), "Denoising MCMC for Accelerating Diffusion-Based Generative Models",
        arXiv:2209.14593, its Langevin-Gibbs sampler.
    """

    step: float = 0.2
    moves: int = 10
    levels: int = 120
    kappa_min: float = 0.01
    kappa_max: float = 20.0
    kappa_end: float = 0.02
    points: int = 4
    burn_in: int = 30
    start: int = 20
    level: Literal["draw", "likeliest"] = "draw"
    keep: Literal["last", "least"] = "last"

    def __post_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise ConfigError(f"step must be positive and finite, got {self.step!r}")
        for name, least in (("moves", 1), ("levels", 2), ("points", 1), ("burn_in", 0), ("start", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number >= {least}, got {value!r}")
        if not 0 < self.kappa_min <= self.kappa_end < self.kappa_max < math.inf:
            raise ConfigError(
                "denoising MCMC needs 0 < kappa_min <= kappa_end < kappa_max, got "
                f"{self.kappa_min!r}, {self.kappa_end!r}, {self.kappa_max!r}"
            )
        if self.level not in ("draw", "likeliest") or self.keep not in ("last", "least"):
            raise ConfigError(
                "level must be 'draw' or 'likeliest' and keep 'last' or 'least', "
                f"got {self.level!r} and {self.keep!r}"
            )

    @property
    def kappas(self) -> Float64[Tensor, " levels"]:
        """The noise levels, rising."""
        low, high = math.log(self.kappa_min), math.log(self.kappa_max)
        return torch.linspace(low, high, self.levels, dtype=torch.float64).exp().clamp(max=self.kappa_max)

    @torch.no_grad()
    def __call__(
        self,
        model: Model,
        posterior: LevelPosterior,
        *,
        chains: int,
        draws: int = 1,
        seed: int = 0,
        condition: Any = None,
        dtype: torch.dtype = torch.float32,
    ) -> Samples:
        """Run chains in parallel on the CPU.

        Args:
            model: the model; it is asked at a time per row.
            posterior: of the levels ``kappas``, given states in units of the data.
            chains, draws: how many, and samples from each.
            seed: of all randomness, addressed by chain and move.
            condition: one for all chains.
        """
        run = _Run(self, model, posterior, chains, Noise(seed), condition, dtype)
        y = run.begin()
        level = run.choose(y)
        for _ in range(self.burn_in):
            y, level = run.move(y, level)
        kept = []
        for _ in range(draws):
            best, at = y, level
            for i in range(self.moves):
                y, level = run.move(y, level)
                is_better = level < at if self.keep == "least" and i else torch.ones(chains, dtype=torch.bool)
                best = torch.where(expand_over_event(is_better, y).bool(), y, best)
                at = torch.where(is_better, level, at)
            kept.append(run.descend(best, self.kappas[at]))
        samples = model.decode(torch.stack(kept, dim=1).flatten(0, 1))
        return Samples(samples.reshape(chains, draws, *samples.shape[1:]), run.nfe)


class _Run:
    """One run: the process, where its random numbers are, and what it has cost per chain."""

    def __init__(
        self,
        setting: DenoisingMCMC,
        model: Model,
        posterior: LevelPosterior,
        chains: int,
        noise: Noise,
        condition: Any,
        dtype: torch.dtype,
    ) -> None:
        self.setting, self.posterior, self.noise = setting, posterior, noise
        self.path = EDM(sigma_max=setting.kappa_max, sigma_min=setting.kappa_min)
        self.process = ContinuousProcess.of(model.to("cpu"), ODE(interpolant=self.path))
        encoded = model.encode([condition])
        self.condition = None if encoded is None else repeated(encoded.to("cpu"), chains)
        self.event, self.dtype = tuple(model.event_shape), dtype
        self.chains, self.counter, self.nfe = chains, 0, 0

    def begin(self) -> State:
        """A short run of the ODE, noised a little."""
        y = self.setting.kappa_max * self._normal(Purpose.INITIAL)
        top = torch.full((self.chains,), self.setting.kappa_max, dtype=torch.float64)
        return self._heun(y, top, self.setting.start) + 0.5 * self._normal(Purpose.MOVE)

    def choose(self, y: State) -> Int64[Tensor, " chains"]:
        log_p = self.posterior(y).double()
        if self.setting.level == "likeliest":
            return log_p.argmax(1)
        edges = torch.softmax(log_p, 1).cumsum(1)
        u = self.noise.uniform(Purpose.SELECT, self._address(), 1).contiguous()
        return torch.searchsorted(edges / edges[:, -1:], u, right=True)[:, 0].clamp(max=log_p.shape[1] - 1)

    def move(self, y: State, level: Int64[Tensor, " chains"]) -> tuple[State, Int64[Tensor, " chains"]]:
        kappa = expand_over_event(self.setting.kappas[level], y)
        score = (self._denoised(y, self.setting.kappas[level]) - y) / kappa**2
        y = y + self.setting.step / 2 * score + math.sqrt(self.setting.step) * self._normal(Purpose.MOVE)
        return y, self.choose(y)

    def descend(self, y: State, kappa: Float64[Tensor, " chains"]) -> State:
        end = self._heun(y, kappa, self.setting.points)
        return self._denoised(end, kappa.clamp(max=self.setting.kappa_end))

    def _heun(self, y: State, kappa: Float64[Tensor, " chains"], steps: int) -> State:
        """Down to ``kappa_end`` on a Karras grid per row; rows below it stay."""
        low = kappa.clamp(max=self.setting.kappa_end)
        u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[:, None]
        for now, after in itertools.pairwise(karras_spacing(u, kappa, low)):
            gap = expand_over_event(after - now, y)
            first = (y - self._denoised(y, now)) / expand_over_event(now, y)
            guess = y + gap * first
            second = (guess - self._denoised(guess, after)) / expand_over_event(after, y)
            y = y + gap / 2 * (first + second)
        return y

    def _denoised(self, y: State, kappa: Float64[Tensor, " chains"]) -> State:
        self.nfe += 1
        t = self.path.t_of_kappa(kappa.clamp(self.setting.kappa_min, self.setting.kappa_max))
        return self.process.evaluate(y, t, self.condition).denoised

    def _normal(self, purpose: Purpose) -> State:
        return self.noise.normal(purpose, self._address(), self.event, self.dtype)

    def _address(self) -> Address:
        zero = torch.zeros(self.chains, dtype=torch.int64)
        self.counter += 1
        return Address(zero, zero + self.counter, torch.arange(self.chains), zero)
