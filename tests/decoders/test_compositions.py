"""Compositions of masked models: weighted mass is the composition's law, to rounding."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale import compose
from itscale.decoders import AncestralTokens, Confidence, FirstHitting
from itscale.errors import ConfigError
from itscale.methods import FKC, SMC, SVDD, NestedSMC
from tests.decoders.laws import propagate
from tests.decoders.toy import other, toy, tv

P, Q = toy().model, other()
LAWS = {
    "annealed": (P**2.0, (2.0,), (P,)),
    "flattened": (P**0.5, (0.5,), (P,)),
    "product": (P * Q, (1.0, 1.0), (P, Q)),
    "geometric mean": (compose.geometric_mean(P, Q, weights=(0.3, 0.7)), (0.3, 0.7), (P, Q)),
    "guidance": (compose.guidance(P, Q, 2.0), (2.0, -1.0), (P, Q)),
}
EXACT = [FirstHitting(), FirstHitting(order="adapted"), Confidence(), Confidence(rule="entropy")]


def truth(name: str) -> tuple[torch.Tensor, float]:
    _, powers, models = LAWS[name]
    law, log_z = models[0].power(powers, *models[1:])
    return law.law, log_z


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("decoder", EXACT, ids=["random", "adapted", "confidence", "entropy"])
def test_event_form_is_exact_in_law_and_normaliser(name, decoder):
    mass = propagate(LAWS[name][0], decoder, weighted=True)
    law, log_z = truth(name)
    assert float(mass.sum().log()) == pytest.approx(log_z, abs=1e-12)
    assert tv(mass / mass.sum(), law) < 1e-12


@pytest.mark.parametrize(
    ("name", "order", "expected"),
    [
        ("annealed", "random", 0.071),
        ("flattened", "random", 0.066),
        ("annealed", "adapted", 0.065),
        ("flattened", "adapted", 0.066),
    ],
)
def test_without_weights_the_law_is_another(name, order, expected):
    mass = propagate(LAWS[name][0], FirstHitting(order=order))
    assert float(mass.sum()) == pytest.approx(1, abs=1e-12)
    assert tv(mass, truth(name)[0]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", LAWS)
def test_ancestral_weights_leave_the_error_of_parallel_decoding(name):
    law, log_z = truth(name)
    off = []
    for steps in (4, 8, 16, 32):
        mass = propagate(LAWS[name][0], AncestralTokens(), steps, weighted=True)
        off.append((tv(mass / mass.sum(), law), abs(float(mass.sum().log()) - log_z)))
    for finer, coarser in zip(off[1:], off, strict=False):
        assert finer[0] < 0.6 * coarser[0]  # first order
    if name == "annealed":
        assert [round(law_off, 4) for law_off, _ in off] == [0.0406, 0.0193, 0.0094, 0.0046]


@pytest.mark.parametrize(
    "method", [FKC(particles=64), SMC(particles=64), NestedSMC(particles=16, children=4)]
)
@pytest.mark.parametrize("name", ["annealed", "flattened", "geometric mean"])
def test_methods_weigh_compositions_and_tilt_them(name, method):
    law, log_z = truth(name)
    rewards = toy().rewards
    tilted = law * rewards.exp()
    log_z += float(tilted.sum().log())
    result = itscale.sample(LAWS[name][0].tilted(toy().reward, 1.0), method=method, groups=300, seed=2)
    mean = float(tilted @ rewards / tilted.sum())
    evidence = (result.log_evidence - log_z).exp()
    per_group = result.expect(result.rewards).per_group
    for estimate, expected in ((evidence, 1.0), (evidence * (per_group - mean), 0.0)):
        assert abs(float(estimate.mean()) - expected) <= 4.89 * float(estimate.std()) / 300**0.5


def test_a_search_is_led_by_the_composition_too():
    sharp = itscale.sample(P**4.0, reward=toy().reward, method=SVDD(particles=200, children=16), tilt=0.0)
    plain = itscale.sample(P, reward=toy().reward, method=SVDD(particles=200, children=16), tilt=0.0)
    assert P.log_prob(sharp.samples).mean() > P.log_prob(plain.samples).mean() + 1


def test_what_has_no_weights_is_refused():
    with pytest.raises(ConfigError, match="exponents of masked models must be numbers"):
        itscale.sample(P ** (lambda t: 1 + t), n=2)
    with pytest.raises(ConfigError, match="Mixture of masked models is not defined"):
        itscale.sample(P | Q, n=2)
    with pytest.raises(ConfigError, match="EqualDensity of masked models is not defined"):
        itscale.sample(P & Q, n=2)
    with pytest.raises(ConfigError, match="experts must live in one space"):
        P * itscale.models.wrap_masked(lambda x: torch.zeros(*x.shape, 4), vocabulary=4, length=6)
    with pytest.raises(ConfigError, match="experts must live in one space"):
        P * itscale.models.wrap_masked(lambda x: torch.zeros(*x.shape, 6), vocabulary=6, length=5)
