"""Values change what a method's weights leave to chance, and nothing of its target."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.engine import Engine, ValuedWorker
from itscale.errors import ConfigError
from itscale.methods import SMC, Beam, NestedSMC, ParticleGibbs, TwistedSMC
from itscale.values import Denoised, FlowMap, LookAhead, ManySample, get_value
from tests.contracts.methods import check_claim
from tests.solvers.drive import gaussian
from tests.values.settings import halved

VALUES = [
    LookAhead(steps=2),
    ManySample(samples=2, inner_steps=3),
    ManySample(samples=3, spread=(0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01)),
    ManySample(samples=2, spread=(0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01), common=True),
    FlowMap(halved, looks=0),
]
METHODS = [
    SMC(particles=32, ess_threshold=1.0),
    SMC(particles=32, potential="max", score_every=3),
    NestedSMC(particles=8, children=4),
    Beam(particles=8, children=4, selection="unbiased"),
    TwistedSMC(particles=32, tempering=(0.9, 0.1, 0.7, 0.3, 1.2, 0.5, 0.2, 1.0), scheme="killing"),
    ParticleGibbs(particles=8),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_methods_keep_their_claims_with_every_value(method, value):
    check_claim(method, value=value)


class Unfinished(Engine):
    """Scores the last look by the value too, as if it were an early one."""

    def score(self, p, gradient=False):
        level = int(p.level[0, 0])
        if level != self.steps - 1 or torch.equal(p.scored, p.level):
            return super().score(p, gradient)
        return self._score_ahead(p, level, torch.ones_like(p.level, dtype=torch.bool))


def test_a_value_in_place_of_the_final_reward_breaks_the_claim(monkeypatch):
    monkeypatch.setattr("itscale.sampling.entry.Engine", Unfinished)
    monkeypatch.setattr(ValuedWorker, "last_look", property(lambda self: self.times.shape[0] - 1))
    with pytest.raises(AssertionError):
        check_claim(SMC(particles=32), value=FlowMap(halved, looks=0))


def test_without_a_tilt_every_value_is_zero_and_samples_are_the_bases():
    for value in VALUES[:3]:
        result = itscale.sample(
            gaussian(0.3, 0.8),
            reward=lambda vectors: vectors[:, 0],
            value=value,
            method=SMC(particles=8),
            steps=8,
            tilt=0.0,
        )
        assert (result.log_weights == 0).all()
        assert float(result.log_evidence) == 0


def test_samples_without_a_score_are_counted_and_the_others_used():
    calls = []

    def reward(vectors):
        calls.append(len(vectors))
        scores = vectors[:, 0].clone()
        scores[vectors[:, 0] > 0.4] = torch.nan
        return scores

    result = itscale.sample(
        gaussian(0.3, 0.8),
        reward=reward,
        value=ManySample(samples=4, inner_steps=2),
        method=SMC(particles=16),
        steps=8,
    )
    assert 0 < result.spent.invalid_rewards < sum(calls)
    assert sum(calls) == sum(result.spent.reward_calls)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LookAhead(steps=0), "steps of a look-ahead must be a whole number >= 1, got 0"),
        (lambda: LookAhead(inner_solver="heun"), r"one of ddim, dpm\+\+2m, got 'heun'"),  # type: ignore[arg-type]
        (lambda: ManySample(samples=0), "samples of ManySample must be a whole number >= 1, got 0"),
        (lambda: ManySample(inner_steps=1), "inner_steps of ManySample must be a whole number >= 2, got 1"),
        (lambda: ManySample(spread=(-1.0,)), "spread must hold finite variances >= 0"),
        (lambda: FlowMap(3), r"map must be a function of \(x, t\)"),  # type: ignore[arg-type]
        (lambda: FlowMap(halved, looks=-1), "looks of a flow map must be a whole number >= 0, got -1"),
        (lambda: get_value("deniosed"), "Did you mean 'denoised'"),
        (lambda: get_value(3), "value must be a name or a value"),  # type: ignore[arg-type]
        (lambda: get_value("flow-map"), "flow-map needs its map"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_spread_of_another_grid_is_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="spread has 8 entries for 5 steps"):
        itscale.sample(gaussian(), reward=lambda vectors: vectors[:, 0], value=VALUES[2], steps=5)


def test_names_and_references_lead_to_values():
    assert get_value("look_ahead") == LookAhead()
    assert get_value("denoised") == Denoised()
    result = itscale.sample(
        gaussian(),
        reward=lambda vectors: vectors[:, 0],
        n=4,
        steps=4,
        value=FlowMap("tests.values.settings:halved"),
    )
    assert result.config["value"] == {
        "name": "FlowMap",
        "map": "tests.values.settings:halved",
        "looks": 1,
    }
