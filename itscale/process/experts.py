"""Experts asked together: one look at all models of a composition, and what an evaluation of them shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.models.base import Given
from itscale.models.composition import Composition, moments_of
from itscale.models.conditions import Encoding, joined, repeated
from itscale.process import density
from itscale.process.continuous import ContinuousProcess
from itscale.process.evaluation import Evaluation
from itscale.types import State, Time, expand_over_event

NOISIEST = 1e3  # kappa at which a run starts at the latest: at pure noise A is infinite on some paths


@dataclass(frozen=True)
class ExpertsEvaluation(Evaluation):
    """Evaluations of all experts at one point, read as that of one model with a combined score.

    Attributes:
        raw: the experts' outputs, (rows, experts, *event).
        parts: one evaluation per expert.
        process: the process that it belongs to.
        memo: what the rows remember of their paths; None where nothing was told.
    """

    process: Any = None
    memo: Float64[Tensor, "rows memo"] | None = None

    @property
    def log_densities(self) -> Float64[Tensor, "rows experts"]:
        """What is known of the experts' log-densities here: remembered, or asked for."""
        if self.memo is not None:
            return self.memo[:, : len(self.parts)]
        return self.process.exact_densities(self.x, self.t)

    @property
    def divergences(self) -> Float64[Tensor, "rows experts"]:
        """Of the experts' scores, as the look found them."""
        assert self.memo is not None, "divergences are remembered from the look"
        return self.memo[:, len(self.parts) + 1 :]

    @cached_property
    def noise(self) -> Tensor:
        return -expand_over_event(self.coefficients.sigma, self.x) * self.score

    @cached_property
    def denoised(self) -> Tensor:
        return interpolants.denoised("noise", self.noise, self.x, self.coefficients)

    @cached_property
    def velocity(self) -> Tensor:
        return interpolants.velocity("noise", self.noise, self.x, self.coefficients)

    @property
    def output(self) -> State:
        return self.denoised

    def denoised_factors(self, c: interpolants.Coefficients) -> tuple[float, float]:
        return 0.0, 1.0

    def weighted(self, tensors: Sequence[Tensor], factors: Sequence[Any]) -> Tensor:
        """``sum_i factors_i tensors_i``; factors are numbers, or (rows,) where they differ by row."""
        total = torch.zeros_like(self.x)
        for tensor, factor in zip(tensors, factors, strict=True):
            if isinstance(factor, Tensor):
                total.addcmul_(tensor, expand_over_event(factor, tensor))
            else:
                total.add_(tensor, alpha=factor)
        return total


@dataclass(frozen=True)
class ExpertsProcess(ContinuousProcess, ABC):
    """A process that asks several models at once.

    Experts that share a network are one call of the network, their conditions stacked.

    Where log-densities of the experts are followed, every row remembers a few numbers of its path, its memo:
    the log-densities, the largest ``|kappa|`` so far (0 where nothing is solved for), and, if they are
    needed, the divergences of the scores at the last look.
    """

    subs: tuple[ContinuousProcess, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        assert isinstance(self.model, Composition)
        subs = [ContinuousProcess(expert, self.interpolant, self.diffusion) for expert in self.model.experts]
        object.__setattr__(self, "subs", tuple(subs))
        density.check_noise(self, self.model.density, self.model.divergence)

    @property
    def composition(self) -> Composition:
        assert isinstance(self.model, Composition)
        return self.model

    @property
    def t_start(self) -> float:
        path = self.interpolant
        known = max(sub.t_start for sub in self.subs)
        if float(path.kappa(max(known, path.t_min))) <= NOISIEST:
            return known
        return float(path.t_of_kappa(NOISIEST))

    def evaluate(self, x: State, t: Time, condition: Encoding | None = None) -> ExpertsEvaluation:
        outputs: list[Tensor | None] = [None] * len(self.subs)
        for members in self._families:
            for index, raw in zip(members, self._asked(members, x, t), strict=True):
                outputs[index] = raw
        return self.evaluation(x, t, torch.stack([o for o in outputs if o is not None], dim=1))

    @abstractmethod
    def evaluation(self, x: State, t: Time, raw: Tensor, memo: Tensor | None = None) -> ExpertsEvaluation: ...

    def parts(self, x: State, t: Time, raw: Tensor) -> tuple[Evaluation, ...]:
        """The experts' own evaluations; none where nothing was asked."""
        if not raw.numel():
            return ()
        return tuple(sub.evaluation(x, t, raw[:, i]) for i, sub in enumerate(self.subs))

    def log_density(self, model: Any, x: State, t: Time) -> Float64[Tensor, " rows"]:
        """Log-density of an expert's marginal on this path at time t."""
        if model.interpolant == self.interpolant:
            return model.marginal_log_prob(x.double(), t)
        source_t, scale = interpolants.match(model.interpolant, self.interpolant, t)
        there = model.marginal_log_prob(x.double() / expand_over_event(scale, x.double()), source_t)
        return there - x[0].numel() * scale.log()

    @property
    def remembers(self) -> bool:
        return self.composition.density is not None

    @property
    def can_jump(self) -> bool:
        return self.composition.density in (None, "exact")

    @property
    def divergence(self) -> str | None:
        return self.composition.divergence

    @cached_property
    def estimate(self) -> density.Ito:
        mean, variance = moments_of(self.composition.experts)
        return density.Ito(self, mean, variance, self.divergence is not None)

    def exact_densities(self, x: State, t: Time) -> Float64[Tensor, "rows experts"]:
        """Log-density of every expert."""
        assert self.composition.density == "exact", "log-densities are remembered, and were not told"
        return torch.stack([self.log_density(sub.model, x, t) for sub in self.subs], dim=1)

    def first_memo(self, x: State) -> Float64[Tensor, "rows memo"]:
        """What rows remember where a run starts: all experts have the density of the prior."""
        start = self.t_start
        if self.composition.density == "exact":
            return self._memo(self.exact_densities(x, torch.tensor(start, dtype=torch.float64)))
        prior = density.log_prior(x, float(self.interpolant.sigma(start)))
        return self._memo(prior[:, None].repeat(1, len(self.subs)))

    def noted(
        self, here: ExpertsEvaluation, x: State, memo: Tensor, probe: Tensor | None
    ) -> Float64[Tensor, "rows memo"]:
        """The memo after a look: with the divergences there. ``x`` is what gradients are taken of."""
        found = density.divergences(here.parts, x, probe)
        return torch.cat([memo[:, : len(self.subs) + 1], found.to(memo)], dim=1)

    def settle(self, here: ExpertsEvaluation, x: State, t: float) -> tuple[State, Tensor]:
        """Where a move from an evaluation to x at time t really ends, and what is remembered there."""
        assert here.memo is not None
        if self.composition.density == "exact":
            return x, self.memo_at(x, t)
        found = here.log_densities + self.estimate.changes(here, x, t)
        return x, self._memo(found, here.memo[:, len(self.subs)])

    def memo_at(self, x: State, t: float) -> Float64[Tensor, "rows memo"]:
        """What is known of states that came by another way than a move of the run.

        Raises:
            ConfigError: after the start, where densities are estimates along the path.
        """
        if t == self.t_start:
            return self.first_memo(x)
        if self.composition.density != "exact":
            raise ConfigError(
                f"states were moved off their path at t = {t:.4g}, and log-densities by "
                f"density={self.composition.density!r} are known along it alone; use density='exact', or a "
                "method without jumps in time"
            )
        return self._memo(self.exact_densities(x, torch.tensor(t, dtype=torch.float64)))

    def _memo(self, log_densities: Tensor, largest: Tensor | None = None) -> Float64[Tensor, "rows memo"]:
        largest = log_densities.new_zeros(len(log_densities)) if largest is None else largest
        count = len(self.subs) if self.divergence is not None else 0
        unknown = log_densities.new_full((len(log_densities), count), torch.nan)
        return torch.cat([log_densities, largest[:, None], unknown], dim=1)

    @cached_property
    def _families(self) -> list[list[int]]:
        """Indices of experts that share a network."""
        found: dict[int, list[int]] = {}
        for index, sub in enumerate(self.subs):
            model = sub.model
            network = model.model if isinstance(model, Given) and model.guidance == 1 else model
            found.setdefault(id(network), []).append(index)
        return list(found.values())

    @cached_property
    def _encoded(self) -> dict[int, Encoding]:
        """The condition of every expert, as its network takes it, (1, ...)."""
        found = {}
        for index, sub in enumerate(self.subs):
            encoding = sub.model.encode([None])
            if encoding is not None:
                found[index] = encoding
        return found

    def _asked(self, members: Sequence[int], x: State, t: Time) -> list[Tensor]:
        """Outputs of experts of one network, from one call."""
        rows, first = len(x), self.subs[members[0]]
        model = first.model
        if isinstance(model, Given) and model.guidance == 1:
            first = replace(first, model=model.model)
        elif len(members) == 1:
            return [first.evaluate(x, t, None).raw]
        conditions = None
        if members[0] in self._encoded:
            each = [self._encoded[i].to(x.device) for i in members]
            conditions = joined([repeated(e, rows) for e in each])
        many = x.repeat(len(members), *(1,) * (x.ndim - 1))
        times = t if t.ndim == 0 else t.repeat(len(members))
        return list(first.evaluate(many, times, conditions).raw.chunk(len(members)))
