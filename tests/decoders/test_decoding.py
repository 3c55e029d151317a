"""Decoders that trade exactness for looks: their laws by enumeration, their bounds, their rules."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import itscale
from itscale.decoders import (
    DECODERS,
    AncestralTokens,
    Confidence,
    EarlyCommit,
    EnergyImportance,
    EntropyBounded,
    FirstHitting,
    Greedy,
    MaskGIT,
    ReMDM,
    Saber,
    Sharpening,
    get_decoder,
)
from itscale.decoders.base import TokenKernel
from itscale.errors import ConfigError
from itscale.methods import SMC, Unguided
from itscale.models import Enumerable
from itscale.process import Masking, TokenProcess
from tests.decoders.laws import propagate
from tests.decoders.toy import toy, tv

MODEL = toy().model
Z = 4.89


@cache
def sharp() -> Enumerable:
    """The law to the power 2.5: entropy 1.302."""
    return Enumerable(2.5 * MODEL.log_law)


@cache
def chains(count: int = 60) -> tuple[Enumerable, ...]:
    """Random laws of eight positions and three tokens, with nearest and next-nearest pairs."""
    rng = np.random.default_rng(0)
    x = np.array(list(product(range(3), repeat=8)))
    found = []
    for _ in range(count):
        h, j, k = rng.normal(0, 0.5, (8, 3)), rng.normal(0, 1.3, (7, 3, 3)), rng.normal(0, 0.7, (6, 3, 3))
        log_p = sum(h[i][x[:, i]] for i in range(8)) + sum(j[i][x[:, i], x[:, i + 1]] for i in range(7))
        log_p = log_p + sum(k[i][x[:, i], x[:, i + 2]] for i in range(6))
        found.append(Enumerable(torch.from_numpy(log_p).reshape((3,) * 8)))
    return tuple(found)


def kernel_of(decoder: Any, model: Enumerable, steps: int | None = None) -> tuple[TokenKernel, TokenProcess]:
    process = TokenProcess(model, Masking())
    return get_decoder(decoder).build(process, steps), process


def chi(found: Tensor, law: Tensor, total: int) -> float:
    """Chi-square of a histogram in standard errors, over cells that are not rare; the rest is one cell."""
    expected, seen = law * total, found * total
    heavy = expected > 10
    cells = torch.cat([expected[heavy], expected[~heavy].sum()[None]])
    counts = torch.cat([seen[heavy], seen[~heavy].sum()[None]])
    keep = cells > 0
    value = ((counts - cells) ** 2 / cells.clamp(min=1e-9))[keep].sum()
    return float(value - keep.sum()) / (2 * int(keep.sum())) ** 0.5


def maskgit_law() -> Tensor:
    """Of one position a step without noise: all draws of all states."""
    size, length = 4, 5
    mass = torch.zeros((size + 1) ** length, dtype=torch.float64)
    mass[-1] = 1.0
    states = MODEL.states
    process = TokenProcess(MODEL, Masking())
    for masks in range(length, 0, -1):
        rows = states[((states == size).sum(1) == masks) & (mass[MODEL.number(states)] > 0)]
        at = process.evaluate(rows, torch.tensor(0.0))
        column = (rows == size).nonzero()[:, 1].reshape(-1, masks)
        laws = at.every[0].gather(1, column[..., None].expand(-1, -1, size))
        draws = torch.cartesian_prod(*[torch.arange(size)] * masks).reshape(-1, masks)
        own = laws[:, torch.arange(masks), draws]  # (rows, draws, masks)
        best = own.argmax(-1)
        chance = own.sum(-1).exp() * mass[MODEL.number(rows)][:, None]
        to = rows[:, None].repeat(1, len(draws), 1)
        where = column[:, None].expand(-1, len(draws), -1).gather(-1, best[..., None])
        token = draws.expand(len(rows), -1, -1).gather(-1, best[..., None])
        to = to.scatter(-1, where, token)
        mass = torch.zeros_like(mass).index_add_(0, MODEL.number(to).flatten(), chance.flatten())
    return mass[MODEL.number(MODEL.sequences)]


def test_maskgit_is_biased_as_enumeration_says():
    law = maskgit_law()
    assert tv(law, MODEL.law) == pytest.approx(0.561, abs=5e-4)
    assert float(-(law * law.clamp(min=1e-300).log()).sum()) == pytest.approx(1.56, abs=5e-3)
    result = itscale.sample(MODEL, n=100_000, solver="maskgit")
    assert abs(chi(MODEL.histogram(result.samples), law, 100_000)) < Z
    noisy = itscale.sample(MODEL, n=20_000, solver=MaskGIT(noise=10.0))
    assert tv(MODEL.histogram(noisy.samples), MODEL.law) < 0.3  # large noise makes the order random


@pytest.mark.parametrize("decoder", [FirstHitting(), Confidence(rule="margin"), AncestralTokens()], ids=str)
def test_moves_are_as_frequent_as_their_probabilities(decoder):
    state = torch.tensor([[1, 4, 4, 0, 4]])
    process = TokenProcess(MODEL, Masking())
    found = itscale.sample(MODEL, n=60_000, solver=decoder, steps=3, initial=state[0]).states
    reached = torch.unique(found.reshape(-1, 5), dim=0)
    assert (reached[:, [0, 3]] == torch.tensor([1, 0])).all()
    # two moves from the state, by the probabilities of the kernel
    x, y = state, MODEL.states
    y = y[((y == x) | (x == 4)).all(1)]
    kernel = get_decoder(decoder).build(TokenProcess(MODEL, Masking(), state), 3)
    mass = {tuple(state[0].tolist()): 1.0}
    for level in range(kernel.steps):
        fresh: dict[tuple[int, ...], float] = {}
        for source, weight in mass.items():
            at = process.evaluate(torch.tensor([source]).expand(len(y), -1), torch.tensor(0.0))
            for target, log_p in zip(y.tolist(), kernel.log_prob(at, level, y).tolist(), strict=True):
                if log_p > -50:
                    fresh[tuple(target)] = fresh.get(tuple(target), 0.0) + weight * float(np.exp(log_p))
        mass = fresh
    law = torch.zeros(1024, dtype=torch.float64)
    law[MODEL.index(torch.tensor(list(mass)))] = torch.tensor(list(mass.values()), dtype=torch.float64)
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)
    assert abs(chi(MODEL.histogram(found), law, 60_000)) < Z


COMMITS = [  # rule, bound, total variation on the sharp law, mean looks
    ("argmax", 0.2, 0.0032, 4.99),
    ("argmax", 0.5, 0.0125, 4.99),
    ("sample", 0.2, 0.0164, 3.02),
    ("sample", 0.3, 0.0209, 2.01),
    ("sample", 0.5, 0.0268, 1.00),
]


@pytest.mark.parametrize(("rule", "bound", "distance", "looks"), COMMITS)
def test_certified_commits_leave_the_known_errors(rule, bound, distance, looks):
    decoder = EarlyCommit(inner="confidence", rule=rule, bound=bound)
    assert tv(propagate(sharp(), decoder), sharp().law) == pytest.approx(distance, abs=5.1e-5)
    spent = itscale.sample(sharp(), n=4000, solver=decoder).spent
    assert spent.nfe[0] / 4000 == pytest.approx(looks, abs=0.02)


@pytest.mark.parametrize("bound", [0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("inner", ["first-hitting", "confidence"])
def test_commits_keep_their_bounds(bound, inner):
    for model in (MODEL, sharp()):
        sampled = propagate(model, EarlyCommit(inner=inner, rule="sample", bound=bound))
        assert float(sampled.sum()) == pytest.approx(1, abs=1e-12)
        assert tv(sampled, model.law) <= (bound / 2) ** 0.5
        taken = propagate(model, EarlyCommit(inner=inner, rule="argmax", bound=bound))
        assert tv(taken, model.law) <= bound


@pytest.mark.parametrize("bound", [0.0, 0.05, 0.2, 0.5, 2.0])
def test_entropy_bounds_limit_the_divergence_of_every_step(bound):
    for model in (MODEL, sharp()):
        law = propagate(model, EntropyBounded(bound=bound))
        assert float(law.sum()) == pytest.approx(1, abs=1e-12)
        # at most five steps, each of them adding at most the bound
        assert tv(law, model.law) <= (5 * bound / 2) ** 0.5 + 1e-12
    exact = EntropyBounded(bound=0.0)
    assert tv(propagate(sharp(), exact), sharp().law) < 1e-12
    found = itscale.sample(sharp(), n=2000, solver=EntropyBounded(bound=0.5))
    assert found.spent.nfe[0] == 2000  # all five at once: the sum before the last is 0.33


def test_every_sequence_commits_by_itself_and_needs_no_look_afterwards():
    decoder = EarlyCommit(inner="first-hitting", rule="sample", bound=0.9)
    result = itscale.sample(MODEL, n=3000, solver=decoder)
    kernel, process = kernel_of(decoder, MODEL)
    assert 3 * 3000 < result.spent.nfe[0] < 5 * 3000
    at = process.evaluate(MODEL.states, torch.tensor(0.0))
    assert 0 < int(kernel.commits(at, 2).sum()) < len(MODEL.states)


def test_the_published_gap_is_a_threshold_on_logits_in_three_thirds():
    decoder = get_decoder("prophet")
    _, process = kernel_of(decoder, sharp())
    at = process.evaluate(torch.full((1, 5), 4), torch.tensor(0.0))
    gap = float((at.raw.topk(2).values @ torch.tensor([1.0, -1.0], dtype=torch.float64)).mean())
    for gaps, commits in (((gap - 0.01, 99, 99), True), ((gap + 0.01, 0, 0), False)):
        one, _ = kernel_of(EarlyCommit(inner="greedy", rule="gap", gaps=gaps), sharp())
        assert bool(one.commits(at, 0)) is commits
    only, _ = kernel_of(EarlyCommit(inner="greedy", rule="gap", gaps=(gap, 9, 9), answer=(2,)), sharp())
    first = float(at.raw[0, 2].topk(2).values @ torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert bool(only.commits(at, 0)) is (first >= gap)
    assert decoder.changes_law


CHAIN_FIGURES = {  # mean log p(output) - log p(mode), share of modes, looks, over 60 laws
    "one a call": (Greedy(), None, -0.047, 0.82, 8.0),
    "two a call": (Greedy(), 4, -0.194, 0.70, 4.0),
    "four a call": (Greedy(), 2, -0.329, 0.57, 2.0),
    "threshold 0.9": (Greedy(threshold=0.9), None, -0.047, 0.82, 7.45),
    "threshold 0.7": (Greedy(threshold=0.7), None, -0.047, 0.82, 5.10),
    "saber 2": (Saber(least=2), None, -0.083, 0.75, 6.87),
    "saber 4": (Saber(least=4), None, -0.391, 0.55, 3.0),
}


@pytest.mark.parametrize("name", CHAIN_FIGURES)
def test_greedy_decoders_find_likely_sequences_in_few_looks(name):
    """The laws are random draws of the kind whose figures are known, not the same ones."""
    decoder, steps, behind, modes, looks = CHAIN_FIGURES[name]
    off, hits, spent = [], 0, 0
    for model in chains():
        result = itscale.sample(model, n=1, solver=decoder, steps=steps)
        off.append(float(model.log_prob(result.states[0, 0]) - model.log_law.max()))
        hits += off[-1] > -1e-9
        spent += result.spent.nfe[0]
    assert np.mean(off) == pytest.approx(behind, abs=4 * np.std(off) / 60**0.5 + 0.02)
    assert hits / 60 == pytest.approx(modes, abs=4 * (modes * (1 - modes) / 60) ** 0.5)
    assert spent / 60 == pytest.approx(looks, rel=0.1)


def test_saber_always_ends_and_hides_no_given_position():
    for model in chains(10):
        given = torch.tensor([0, 3, 3, 3, 1, 3, 3, 3])
        for setting in (Saber(), Saber(least=5), Saber(confidence="committed")):
            result = itscale.sample(model, n=2, solver=setting, initial=given)
            assert (result.states < 3).all()
            assert (result.states[..., [0, 4]] == torch.tensor([0, 1])).all()
            assert result.spent.nfe[0] <= 2 * 2 * 6


def remasked_law(decoder: ReMDM, steps: int) -> tuple[Tensor, list[float]]:
    """Law of samples, and the clean share at every level, through all pairs of states."""
    kernel, process = kernel_of(decoder, MODEL, steps)
    states = MODEL.states
    memo = kernel.first_memo(states, torch.ones_like(states, dtype=torch.bool), None)  # type: ignore[attr-defined]
    raw = process.evaluate(states, torch.tensor(0.0)).raw
    at = process.evaluation(states, torch.tensor(0.0), raw, memo)
    hidden, mass = states == 4, torch.zeros(len(states), dtype=torch.float64)
    mass[-1] = 1.0
    shares = []
    for level in range(steps):
        chance, sigma = kernel.revealed(level), kernel.sigma(at, level)  # type: ignore[attr-defined]
        law = torch.zeros(len(states), 5, 5, dtype=torch.float64)
        law[..., :4] = torch.where(
            hidden[..., None], chance * at.every[0].exp(), at.every[0].exp() * (1 - sigma[..., None])
        )
        law[..., 4] = torch.where(hidden, 1 - chance, sigma)
        flow = mass
        for i in range(5):
            flow = flow[..., None] if i == 0 else flow
            factor = law[:, i].reshape(len(states), *[1] * i, 5)
            flow = (flow.reshape(len(states), -1)[..., None] * factor.reshape(len(states), 1, 5)).reshape(
                len(states), -1
            )
        mass = flow.sum(0)
        shares.append(float((mass[:, None] * ~hidden).sum()) / 5)
    return mass[MODEL.number(MODEL.sequences)], shares


@pytest.mark.parametrize(
    ("steps", "eta", "expected"), [(8, 0.0, 0.0559), (8, 0.1, 0.0567), (8, 0.3, 0.0647), (16, 0.1, 0.0303)]
)
def test_remasking_keeps_marginals_and_gains_nothing_where_conditionals_are_exact(steps, eta, expected):
    law, shares = remasked_law(ReMDM(strategy="rescale", eta=eta), steps)
    assert tv(law, MODEL.law) == pytest.approx(expected, abs=5e-5)
    torch.testing.assert_close(
        torch.tensor(shares), torch.arange(1, steps + 1) / steps, rtol=0, atol=1e-6, check_dtype=False
    )


@pytest.mark.parametrize("strategy", ["cap", "forward-backward", "rescale"])
def test_sampled_remasking_has_its_law(strategy):
    decoder = ReMDM(strategy=strategy, eta=0.3)
    law, _ = remasked_law(decoder, 4)
    result = itscale.sample(MODEL, n=60_000, solver=decoder, steps=4)
    assert abs(chi(MODEL.histogram(result.states), law, 60_000)) < Z


@pytest.mark.parametrize("strategy", ["confidence", "loop", "cap"])
def test_remasking_keeps_what_is_given(strategy):
    given = torch.tensor([2, 4, 4, 4, 1])
    result = itscale.sample(
        MODEL, n=50, solver=ReMDM(strategy=strategy, eta=0.5), steps=20, initial=given, method=Unguided()
    )
    assert (result.states < 4).all()
    assert (result.states[..., [0, 4]] == torch.tensor([2, 1])).all()
    assert result.spent.nfe[0] > 4 * 50  # tokens were hidden again


def test_remasking_probabilities_sum_to_one_over_all_ends():
    kernel, process = kernel_of(ReMDM(strategy="confidence"), MODEL, 6)
    state = torch.tensor([[0, 4, 2, 4, 1]]).expand(3125, -1)
    raw = process.evaluate(state, torch.tensor(0.0)).raw
    memo = torch.tensor([[0.3, 0.0, 0.9, 0.0, torch.inf]], dtype=torch.float64).expand(3125, -1)
    at = process.evaluation(state, torch.tensor(0.0), raw, memo)
    chance = kernel.log_prob(at, 3, MODEL.states).exp()
    assert float(chance.sum()) == pytest.approx(1, abs=1e-12)
    assert float(chance[MODEL.states[:, 4] != 1].sum()) == 0  # it was given
    hides_unsure = chance[(MODEL.states[:, 0] == 4)].sum()
    assert hides_unsure > chance[(MODEL.states[:, 2] == 4)].sum()


def test_one_step_of_energy_importance_has_the_law_of_the_best_of_weighted_candidates():
    independent = propagate(MODEL, "ancestral", 1)
    ratio = MODEL.law / independent
    pair = ratio[:, None] / (ratio[:, None] + ratio[None, :])
    law = 2 * independent * (pair * independent[None, :]).sum(1)
    assert tv(law, MODEL.law) == pytest.approx(0.2501, abs=5e-5)
    result = itscale.sample(MODEL, n=60_000, solver=EnergyImportance(log_joint=MODEL.log_prob), steps=1)
    assert abs(chi(MODEL.histogram(result.states), law, 60_000)) < Z
    wrong = EnergyImportance(log_joint=lambda x: -MODEL.log_prob(x))
    result = itscale.sample(MODEL, n=20_000, solver=wrong, steps=1)
    assert abs(chi(MODEL.histogram(result.states), law, 20_000)) > 100


@pytest.mark.parametrize(("steps", "candidates"), [(2, 4), (4, 2)])
def test_corrected_energy_importance_is_unbiased(steps, candidates):
    decoder = EnergyImportance(
        log_joint=MODEL.log_prob, candidates=candidates, correct=True, log_visible=MODEL.log_prob
    )
    law, log_z = MODEL.tilted_law(toy().rewards, 1.0)
    result = itscale.sample(
        MODEL, reward=toy().reward, method=SMC(particles=32), solver=decoder, steps=steps, groups=400
    )
    evidence = (result.log_evidence - log_z).exp()
    per_group = result.expect(result.rewards).per_group - float(law @ toy().rewards)
    for estimate, expected in ((evidence, 1.0), (evidence * per_group, 0.0)):
        assert abs(float(estimate.mean()) - expected) <= Z * float(estimate.std()) / 20


@pytest.mark.parametrize(
    "decoder", [FirstHitting, Confidence, AncestralTokens], ids=["first-hitting", "confidence", "ancestral"]
)
def test_a_corrected_temperature_keeps_the_law_and_others_change_it(decoder):
    hot = decoder(sharpening=Sharpening(temperature=1.5), correct=True)
    mass = propagate(MODEL, hot, 16 if decoder is AncestralTokens else None, weighted=True)
    plain = propagate(MODEL, decoder(), 16 if decoder is AncestralTokens else None)
    torch.testing.assert_close(mass, plain, rtol=1e-9, atol=1e-14)
    assert not hot.changes_law
    for sharpening in (Sharpening(temperature=0.7), Sharpening(top_k=2), Sharpening(top_p=0.8)):
        setting = decoder(sharpening=sharpening)
        assert setting.changes_law
        assert tv(propagate(MODEL, setting, 4), MODEL.law) > 0.05
        with pytest.raises(ConfigError, match="exact target"):
            itscale.sample(MODEL, reward=toy().reward, method="smc", solver=setting)


def test_top_k_and_nucleus_keep_what_they_say():
    law = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()
    kept = lambda **setting: Sharpening(**setting)(law).exp()  # noqa: E731
    torch.testing.assert_close(kept(top_k=2), torch.tensor([[0.625, 0.375, 0, 0]], dtype=torch.float64))
    torch.testing.assert_close(kept(top_p=0.79), torch.tensor([[0.625, 0.375, 0, 0]], dtype=torch.float64))
    torch.testing.assert_close(kept(top_p=0.81).sum(), torch.tensor(1.0, dtype=torch.float64))
    assert int((kept(top_p=0.81) > 0).sum()) == 3
    torch.testing.assert_close(kept(temperature=0.5), torch.softmax(2 * law, -1))


@pytest.mark.parametrize("name", sorted(set(DECODERS) - {"energy", "guided", "uniform-noise"}))
def test_every_decoder_completes_sequences_and_resumes_in_batches(name):
    result = itscale.sample(MODEL, n=9, groups=2, solver=name, seed=4)
    again = itscale.sample(MODEL, n=9, groups=2, solver=name, seed=4, pool=itscale.pools.Local(microbatch=4))
    assert (result.states < 4).all()
    assert torch.equal(result.states, again.states)
