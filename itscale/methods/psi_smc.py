"""Psi-sampler: Markov chains among the initial noises, then SMC from where they arrive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from itscale.budget import Budget
from itscale.engine import Engine, Particles
from itscale.errors import ConfigError
from itscale.guides import Langevin
from itscale.methods.base import Claim, Cost, Needs, Plan, State, check_count, forget_weights, plan_particles
from itscale.methods.metropolis import metropolis_move
from itscale.methods.twisted import TwistedSMC, TwistedState
from itscale.particles import WhenESSBelow
from itscale.potentials import Difference
from itscale.process import ContinuousProcess
from itscale.solvers.neighbour import Neighbour

PROPOSALS = ("auto", "pcnl", "pcn")
STARTS = ("weighted", "plain")


@dataclass(frozen=True)
class ChainState(State):
    """Chains on their way; ``particles`` is where they are.

    Attributes:
        kept: states that will be particles, one population of chains each.
        left: moves still to make.
        wanted: states to keep of each chain.
    """

    kept: tuple[Particles, ...] = ()
    left: int = 0
    wanted: int = 1


@dataclass(frozen=True, kw_only=True)
class PsiSMC:
    """Chains that favour noises by ``exp(v_0)``, v_0 the value of the first denoised sample; then SMC.

    The law of the chains is ``N(0, s^2 I) exp(v_0)``, s the noise level where the grid begins. They move by
    preconditioned Crank-Nicolson steps, along the reward's gradient where there is one, each accepted or not
    (``metropolis_move``); all are one batch. Their states are the particles of a twisted SMC whose first
    increment is ``v_1 - v_0``: v_0 is in their law already. It can be worth its cost where the noise
    decides the reward and few noises survive the tilt. Where the first denoised sample does not depend on
    the noise (an exact model on a path from pure noise) the chains have nothing to do, and it is SMC.

    Cost: C (1 + burn_in + (N / C - 1) every) looks of the chains, each also backwards with gradients, and
    N (T - 1) of SMC; as many reward calls. Target: the tilted law. With ``start="weighted"`` a chain keeps
    the weight exp(v_0) of the noise that it started from (resampled if few carry it), so law and evidence
    are right for chains of any length as N grows, the evidence unbiased. With ``"plain"``, as published,
    weights start equal: the law is right as ``burn_in`` grows, and there is no evidence.

    Attributes:
        particles: N; None takes what the budget allows.
        chains: C, a divisor of N; None is N, one particle a chain.
        burn_in: moves before a state is kept.
        every: moves between the kept states of a chain.
        cosine: c, between a noise and its proposal without gradient; the paper's step is
            ``4 (1 - c) / (1 + c)``.
        proposal: ``"pcnl"`` with gradients, ``"pcn"`` without, ``"auto"`` with them where the reward is
            differentiable.
        start: ``"weighted"`` or ``"plain"``.
        guide: moves of SMC, ``"none"`` or pushed along gradients through the network, ``"network"``.
        cap: largest norm of a push, of chains and of SMC, in standard deviations of the move.
        ess_threshold, scheme: resampling, as in ``SMC``.

    Reference:
        Yoon et al. (2025), "Psi-Sampler: Initial Particle Sampling for SMC-Based Inference-Time Reward
        Alignment in Score Models", arXiv:2506.01320. Weighted starts are as in Del Moral, Doucet
        and Jasra (2006), "Sequential Monte Carlo Samplers", section 3.3.
    """

    particles: int | None = None
    chains: int | None = None
    burn_in: int = 10
    every: int = 1
    cosine: float = 0.8
    proposal: Literal["auto", "pcnl", "pcn"] = "auto"
    start: Literal["weighted", "plain"] = "weighted"
    guide: Literal["none", "network"] = "none"
    cap: float | None = None
    ess_threshold: float = 0.5
    scheme: str = "systematic"
    has_lineage = False

    def __post_init__(self) -> None:
        check_count("particles", self.particles)
        check_count("chains", self.chains)
        check_count("burn_in", self.burn_in)
        check_count("every", self.every)
        if not 0 <= self.cosine < 1:
            raise ConfigError(f"cosine must be in [0, 1), got {self.cosine!r}: 1 proposes the same noise")
        for name, value, allowed in (
            ("proposal", self.proposal, PROPOSALS),
            ("start", self.start, STARTS),
            ("guide", self.guide, ("none", "network")),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.particles and self.chains and self.particles % self.chains:
            raise ConfigError(
                f"particles={self.particles} is no multiple of chains={self.chains}: each chain gives as many"
            )
        if self.guide == "network" and self.proposal == "pcn":
            raise ConfigError("guide='network' has gradients at hand: use proposal='pcnl', or guide='none'")
        self._smc()

    @property
    def needs(self) -> Needs:
        is_pushed = self.proposal == "pcnl" or self.guide == "network"
        return Needs(noise=True, normal=True, gradient=is_pushed, noise_start=True)

    @property
    def claim(self) -> Claim:
        claim = self._smc().claim
        return claim if self.start == "weighted" else Claim(claim.target, None)

    def check(self, process: ContinuousProcess, times: Tensor) -> None:
        """Raise ConfigError where the initial noise is not normal."""
        if process.prior is not None:
            raise ConfigError(
                f"PsiSMC moves among normal noises, and the process starts from {process.prior!r}"
            )

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        along, pushes = self._has_gradient(cost.has_gradient), self.guide == "network"
        pushed = sum(cost.noisy[1:]) if pushes else 0

        def cost_of(count: int) -> Plan:
            n = count * (self.chains or 1)
            looks = self._chains(n) * (1 + self._moves(n))
            later = n * (cost.steps - 1)
            gradients = looks * along + n * pushed
            early = looks + later - n if cost.steps > 1 else 0
            return cost.plan(n, looks + later + n * sum(cost.extra_looks), looks + later, early, gradients)

        return plan_particles(
            self.particles and self.particles // (self.chains or 1),
            max(1, 16 // (self.chains or 1)),
            cost_of,
            budget,
            cost.rows_per_look,
            shrink="burn_in or steps",
            unit="particles" if self.chains is None else "states a chain",
        )

    def init(self, engine: Engine, plan: Plan) -> ChainState:
        n = plan.particles
        p = engine.start(n)
        if self._chains(n) < n:
            p = engine.select(p, torch.arange(self._chains(n)).expand(p.groups, -1))
        p = engine.score(engine.look(p, gradient=self._has_gradient(engine.has_gradient)))
        p = engine.weight(p, Difference())
        if self.start == "weighted":
            p = engine.resample(p, WhenESSBelow(self.ess_threshold), self.scheme)
        else:
            p = forget_weights(p)
        return ChainState(p, left=self._moves(n), wanted=n // self._chains(n))

    def step(self, engine: Engine, state: ChainState | TwistedState) -> State:
        if isinstance(state, TwistedState):
            return self._smc().step(engine, state)
        guide = None
        if self._has_gradient(engine.has_gradient):
            guide = Langevin(engine.tilt, self.cosine, self.cap)
        p = metropolis_move(engine, state.particles, Neighbour(self.cosine), guide)
        left, kept = state.left - 1, state.kept
        if left % self.every == 0 and left // self.every < state.wanted:
            kept = (*kept, p)
        state = replace(state, particles=p, kept=kept, left=left)
        return state if left else self._particles(engine, state)

    def _particles(self, engine: Engine, state: ChainState) -> TwistedState:
        """The states that were kept, as the particles of SMC at level 0."""
        n = sum(p.n for p in state.kept)
        slots = torch.arange(n).expand(engine.groups, -1)
        p = replace(engine.gather(list(state.kept), slots), origin=slots)
        full = torch.ones(engine.groups, dtype=torch.float64)
        return TwistedState(p, exponent=full, sizes=(n,) * engine.steps)

    def _smc(self) -> TwistedSMC:
        return TwistedSMC(
            particles=self.particles,
            ess_threshold=self.ess_threshold,
            scheme=self.scheme,
            guide=self.guide,
            cap=self.cap,
        )

    def _has_gradient(self, there_is_one: bool) -> bool:
        """Whether chains move along gradients."""
        return self.proposal == "pcnl" or (self.proposal == "auto" and there_is_one)

    def _chains(self, n: int) -> int:
        return self.chains or n

    def _moves(self, n: int) -> int:
        """Moves of each chain, for n particles in all."""
        return self.burn_in + (n // self._chains(n) - 1) * self.every
