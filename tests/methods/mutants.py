"""Methods with one fault each, of the kind that published code has. Every check of law must refuse them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from itscale.methods import NestedSMC, RestartSMC
from itscale.particles import effective_sample_size


class Tampered:
    """An engine of which one verb is replaced."""

    def __init__(self, engine: Any, **verbs: Any) -> None:
        self._engine = engine
        self._verbs = verbs

    def __getattr__(self, name: str) -> Any:
        if name in self._verbs:
            return lambda *args, **kwargs: self._verbs[name](self._engine, *args, **kwargs)
        return getattr(self._engine, name)


@dataclass(frozen=True, kw_only=True)
class Mutant(NestedSMC):
    def init(self, engine, plan):
        return super().init(self.tamper(engine), plan)

    def step(self, engine, state):
        return super().step(self.tamper(engine), state)

    def tamper(self, engine):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WeightsDropped(Mutant):
    """Groups that do not resample start the next step with equal weights."""

    def tamper(self, engine):
        def resample(engine, p, rule, scheme, n):
            stays = effective_sample_size(p.log_weights) >= self.ess_threshold * p.n
            done = engine.resample(p, rule, scheme, n)
            return replace(done, log_weights=torch.where(stays[:, None], 0.0, done.log_weights))

        return Tampered(engine, resample=resample)


@dataclass(frozen=True, kw_only=True)
class RunningMaxAtTheEnd(Mutant):
    """The last factor uses the best value of the path in place of the sample's own."""

    potential: str = "max"

    def tamper(self, engine):
        def weight(engine, p, potential=None):
            if int(p.level[0, 0]) == engine.steps:
                p = replace(p, value=torch.maximum(p.value, p.carry["potential_memory"]))
            return engine.weight(p, potential)

        return Tampered(engine, weight=weight)


@dataclass(frozen=True, kw_only=True)
class WrongSign(Mutant):
    """Weights fall with the reward."""

    def tamper(self, engine):
        def weight(engine, p, potential=None):
            done = engine.weight(p, potential)
            return replace(done, log_weights=2 * p.log_weights - done.log_weights)

        return Tampered(engine, weight=weight)


@dataclass(frozen=True, kw_only=True)
class SumOfWeights(Mutant):
    """The evidence takes up the sum of a resampled group's weights, not their mean."""

    def tamper(self, engine):
        def resample(engine, p, rule, scheme, n):
            done = engine.resample(p, rule, scheme, n)
            grew = done.log_evidence != p.log_evidence
            return replace(done, log_evidence=done.log_evidence + math.log(p.n) * grew)

        return Tampered(engine, resample=resample)


@dataclass(frozen=True, kw_only=True)
class ValueLeftBehind(Mutant):
    """Resampling moves the states and not what their potentials remember."""

    def tamper(self, engine):
        def resample(engine, p, rule, scheme, n):
            return replace(engine.resample(p, rule, scheme, n), carry=p.carry)

        return Tampered(engine, resample=resample)


@dataclass(frozen=True, kw_only=True)
class SiblingsForgotten(Mutant):
    """The chosen child brings its own weight in place of the mean over its siblings."""

    def tamper(self, engine):
        def choose(engine, p, children, *, argmax=False, correct=True):
            plain = engine.choose(p, children, argmax=argmax, correct=correct)
            parents = p.n // children
            best = p.log_weights.reshape(p.groups, parents, children).amax(-1)
            return replace(plain, log_weights=best)

        return Tampered(engine, choose=choose)


@dataclass(frozen=True, kw_only=True)
class RestartMutant(RestartSMC):
    def step(self, engine, state):
        return super().step(self.tamper(engine), state)

    def tamper(self, engine):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class EveryCycleAccepted(RestartMutant):
    """Cycles move particles back towards the base law, and nothing says so."""

    def tamper(self, engine):
        return Tampered(engine, accept=lambda engine, p, q, ratio: engine.accept(p, q, ratio.abs()))


@dataclass(frozen=True, kw_only=True)
class AcceptedTheWrongWay(RestartMutant):
    """The ratio of Metropolis upside down."""

    def tamper(self, engine):
        return Tampered(engine, accept=lambda engine, p, q, ratio: engine.accept(p, q, -ratio))


@dataclass(frozen=True, kw_only=True)
class WeightNotTakenOver(RestartMutant):
    """An accepted particle keeps what its predecessor had been weighted by."""

    def tamper(self, engine):
        def accept(engine, p, q, ratio):
            return engine.accept(p, replace(q, carry=p.carry), ratio)

        return Tampered(engine, accept=accept)


@dataclass(frozen=True, kw_only=True)
class CyclesUnweighted(RestartMutant):
    """Cycles are made and their weights dropped."""

    def _cycle(self, engine, p, kernel):
        return replace(super()._cycle(engine, p, kernel), log_weights=p.log_weights)

    def tamper(self, engine):
        return engine
