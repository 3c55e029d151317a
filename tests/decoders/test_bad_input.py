"""Masked models: what cannot work is named, with its value and what to do, before the network is called."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import itscale
from itscale.decoders import (
    AncestralTokens,
    Confidence,
    EarlyCommit,
    EnergyImportance,
    EntropyBounded,
    FirstHitting,
    GuidedTokens,
    Jumps,
    MaskGIT,
    ReMDM,
    Saber,
    Sharpening,
)
from itscale.errors import ConfigError, UnknownName
from itscale.models import Enumerable, wrap_masked
from itscale.process import Masking
from itscale.process.masking import GeometricMasking, MaskingTable, PolynomialMasking
from itscale.values import Completions, LookAhead, Tabulated
from tests.decoders.toy import toy

CALLS: list[int] = []


def network(x: torch.Tensor) -> torch.Tensor:
    CALLS.append(len(x))
    return torch.zeros(*x.shape, 4)


MODEL = wrap_masked(network, vocabulary=4, length=5)


def run(**settings: Any) -> Any:
    return itscale.sample(MODEL, **{"n": 2, **settings})


REFUSED = [
    ({"initial": torch.tensor([0, 1, 2])}, "initial has 3 tokens, and sequences of the model have 5"),
    ({"initial": torch.tensor([0, 1, 7, 4, 4])}, "token 7 at position 2; tokens are 0 to 3, and 4 for"),
    ({"initial": torch.tensor([0, -1, 4, 4, 4])}, "token -1 at position 1"),
    ({"initial": torch.zeros(5)}, "must be a tensor of token numbers"),
    ({"initial": torch.tensor([0, 1, 2, 3, 0])}, "hides no position"),
    ({"initial": torch.full((3, 5), 4)}, r"\(length,\) or \(groups, length\)"),
    ({"initial": torch.full((1, 2, 5), 4)}, r"\(length,\) or \(groups, length\)"),
    ({"steps": 6}, "steps=6 is more than the 5 positions"),
    ({"steps": 0}, "steps must be"),
    ({"initial": torch.tensor([0, 1, 4, 4, 0]), "steps": 3}, "more than the 2 positions"),
    ({"solver": "first-hiting"}, "Did you mean 'first-hitting'"),
    ({"solver": "heun"}, "unknown solver of a masked model"),
    ({"solver": itscale.solvers.Heun()}, "must be a name or a decoder"),
    ({"process": itscale.SDE()}, "runs on process=Masking"),
    ({"grid": "quarter-circle"}, "has no time grid"),
    ({"solver": "energy"}, "energy needs a joint model"),
    ({"condition": 3}, "takes none"),
    ({"guidance": 2.0}, "needs a conditional model"),
    ({"reward": network, "method": "smc", "solver": "maskgit"}, "exact target"),
    ({"reward": network, "method": "svdd", "solver": "greedy"}, "copies"),
    ({"reward": network, "method": "smc", "value": LookAhead(2)}, "is a value of continuous models"),
    ({"reward": network, "method": "smc", "value": Tabulated(torch.zeros(7))}, "3125 numbers"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[str(k) for k in range(len(REFUSED))])
def test_settings_that_cannot_work_are_refused_before_the_network_is_called(settings, message):
    CALLS.clear()
    with pytest.raises((ConfigError, UnknownName), match=message):
        run(**settings)
    assert not CALLS


MADE: list[tuple[Any, str]] = [
    (lambda: wrap_masked(3, vocabulary=4, length=5), "module must be callable"),  # type: ignore[arg-type]
    (lambda: wrap_masked(network, vocabulary=0, length=5), "vocabulary must be"),
    (lambda: wrap_masked(network, vocabulary=4, length=0), "length must be"),
    (lambda: wrap_masked(network, vocabulary=4, length=5, mask=-1), "mask must be"),
    (lambda: wrap_masked(network, vocabulary=2, length=5, never=(0, 1)), "left to generate"),
    (lambda: wrap_masked(network, vocabulary=2, length=5, never=(9,)), "never must hold tokens"),
    (lambda: wrap_masked(network, vocabulary=4, length=5, modality="molecul"), "Did you mean 'molecule'"),
    (lambda: wrap_masked(network, vocabulary=4, length=5, null_condition=0), "needs conditional=True"),
    (lambda: Enumerable(torch.zeros(3, 4)), "an enumerable law needs"),
    (lambda: Enumerable(torch.zeros(*(4,) * 11)), "masked states"),
    (lambda: Masking(schedule="cosin"), "Did you mean 'cosine'"),
    (lambda: PolynomialMasking(0.0), "power of a masking schedule"),
    (lambda: GeometricMasking(2.0, 1.0), "0 < low < high"),
    (lambda: MaskingTable((0.0, 0.6, 0.5, 1.0)), "rise from 0 to 1"),
    (lambda: Sharpening(temperature=0), "temperature must be"),
    (lambda: Sharpening(top_k=0), "top_k must be"),
    (lambda: Sharpening(top_p=1.5), "top_p must be"),
    (lambda: FirstHitting(order="left"), "order must be"),  # type: ignore[arg-type]
    (lambda: FirstHitting(sharpening=Sharpening(top_k=2), correct=True), "leaves some out for good"),
    (lambda: Confidence(rule="sure"), "rule must be"),  # type: ignore[arg-type]
    (lambda: AncestralTokens(sharpening=Sharpening(top_p=0.5), correct=True), "leaves some out for good"),
    (lambda: EntropyBounded(bound=-1), "bound must be"),
    (lambda: EarlyCommit(rule="soon"), "rule must be"),  # type: ignore[arg-type]
    (lambda: EarlyCommit(inner="nothing"), "unknown solver"),
    (lambda: ReMDM(strategy="all"), "strategy must be"),  # type: ignore[arg-type]
    (lambda: ReMDM(eta=2.0), "eta must be"),
    (lambda: ReMDM(window=(0.1, 0.5)), "window must be"),
    (lambda: MaskGIT(noise=-1.0), "noise must be"),
    (lambda: Saber(least=0), "least must be"),
    (lambda: Jumps(power=0.0), "power must be"),
    (lambda: GuidedTokens(tilts=3), "tilts must be callable"),  # type: ignore[arg-type]
    (lambda: EnergyImportance(log_joint=network, candidates=0), "candidates must be"),
    (lambda: EnergyImportance(log_joint=network, correct=True), "log_visible"),
    (lambda: Completions(samples=0), "samples of Completions"),
]


@pytest.mark.parametrize(("make", "message"), MADE, ids=[str(k) for k in range(len(MADE))])
def test_wrong_values_are_named(make, message):
    with pytest.raises((ConfigError, UnknownName), match=message):
        make()


def test_a_network_of_another_shape_is_told_what_is_expected():
    short = wrap_masked(lambda x: torch.zeros(*x.shape, 3), vocabulary=4, length=5)
    with pytest.raises(ConfigError, match=r"V\) = \(2, 5, 4\), got torch.float32 \(2, 5, 3\)"):
        itscale.sample(short, n=2)
    whole = wrap_masked(lambda x: torch.zeros(*x.shape, 4, dtype=torch.int64), vocabulary=4, length=5)
    with pytest.raises(ConfigError, match="floating-point logits"):
        itscale.sample(whole, n=2)


def test_decoders_and_masking_are_not_for_continuous_models():
    mixture = itscale.models.GaussianMixture([1.0], [[0.0]], [1.0])
    for settings in ({"solver": FirstHitting()}, {"process": Masking()}):
        with pytest.raises(ConfigError, match="are for masked models"):
            itscale.sample(mixture, n=2, **settings)
    with pytest.raises(ConfigError, match="this is a masked model"):
        itscale.advise(toy().model, toy().reward, itscale.Budget(nfe=100))


def test_tokens_that_are_not_to_be_generated_never_are():
    model = wrap_masked(network, vocabulary=4, length=5, mask=1, never=(3,))
    for solver in ("first-hitting", "ancestral", "maskgit", "greedy"):
        drawn = itscale.sample(model, n=200, solver=solver).states
        assert set(drawn.unique().tolist()) <= {0, 2}


def test_texts_reach_rewards_and_results(tmp_path):
    def spell(x: torch.Tensor) -> list[str]:
        return ["".join("abcd"[int(t)] for t in row) for row in x]

    model = wrap_masked(network, vocabulary=4, length=5, decode=spell, modality="text")
    reward = itscale.scoring.Reward.of(
        lambda texts: [float(t.count("a")) for t in texts], name="a", modality="text"
    )
    result = itscale.sample(model, reward=reward, method="smc", particles=6, groups=2)
    assert result.texts is not None
    assert [[t.count("a") for t in row] for row in result.texts] == result.rewards.int().tolist()
    back = itscale.Result.load(result.save(tmp_path))
    assert back.texts == result.texts
    with pytest.raises(ConfigError, match="reward of 'molecule'"):
        itscale.sample(
            model, reward=itscale.scoring.Reward.of(lambda s: [0.0] * len(s), name="m", modality="molecule")
        )
