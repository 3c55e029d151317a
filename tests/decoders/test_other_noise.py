"""Noise in the form of matrices, and networks that give ratios of probabilities."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.decoders import UniformNoise
from itscale.errors import ConfigError
from itscale.models import wrap_masked
from itscale.models.concrete_scores import ConcreteScores
from itscale.process import Masking, TokenProcess
from tests.decoders.test_draws import noisy_model
from tests.decoders.toy import toy

V = 5
LAW = torch.tensor([0.4, 0.05, 0.3, 0.05, 0.2], dtype=torch.float64)
MODEL = toy().model


def neighbourly(steps: int) -> torch.Tensor:
    """A noise that moves to neighbouring tokens and spreads until nothing is left."""
    walk = torch.zeros(V, V, dtype=torch.float64)
    for i in range(V):
        for j in (i - 1, i + 1):
            walk[i, min(max(j, 0), V - 1)] += 0.5
    slow = 0.7 * torch.eye(V, dtype=torch.float64) + 0.3 * walk
    made = [torch.eye(V, dtype=torch.float64)]
    for _ in range(steps - 1):
        made.append(made[-1] @ slow)
    made.append(torch.full((V, V), 1 / V, dtype=torch.float64))
    return torch.stack(made[::-1])


def exact(transitions: torch.Tensor):
    """One token under a noise: its network knows the law of the clean one."""
    steps = len(transitions) - 1

    def network(x, t):
        level = (t * steps).round().long()
        joint = LAW * transitions[level][:, :, :].gather(2, x[:, :, None].expand(-1, V, -1))[..., 0]
        return (joint / joint.sum(dim=1, keepdim=True)).log()[:, None]

    return wrap_masked(network, vocabulary=V, length=1, time=True, noise="uniform")


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_any_noise_leads_back_to_the_law_of_one_token(steps):
    """One position has no other to be independent of, so the way back is exact with any number of steps."""
    noise = neighbourly(steps)
    model = exact(noise)
    process = TokenProcess(model, Masking())
    kernel = UniformNoise(transitions=noise).build(process, None)
    assert kernel.steps == steps
    tokens, mass = torch.arange(V)[:, None], torch.full((V,), 1 / V, dtype=torch.float64)
    for level in range(steps):
        at = process.evaluate(tokens + model.tokens.offset, kernel.times[level])
        mass = mass @ kernel.law(at, level).exp()
        between = LAW @ noise[level + 1]
        assert torch.allclose(mass, between, atol=1e-10)
    assert torch.allclose(mass, LAW, atol=1e-10)
    drawn = itscale.sample(model, n=4000, solver=UniformNoise(transitions=noise), seed=0).samples
    found = torch.bincount(drawn.flatten(), minlength=V) / 4000
    assert ((found - LAW).abs() < 4 * (LAW * (1 - LAW) / 4000).sqrt()).all()


def test_matrices_of_uniform_noise_are_uniform_noise():
    clean = Masking().clean_shares(4)[:, None, None]
    matrices = clean * torch.eye(4, dtype=torch.float64) + (1 - clean) / 4
    model = noisy_model()
    process = TokenProcess(model, Masking())
    at = process.evaluate(MODEL.sequences[::37] + model.tokens.offset, torch.tensor(0.5, dtype=torch.float64))
    plain, given = (d.build(process, 4) for d in (UniformNoise(), UniformNoise(transitions=matrices)))
    torch.testing.assert_close(given.law(at, 2), plain.law(at, 2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[:, :4, :4], r"transitions must be \(steps \+ 1, V, V\) = \(4, 5, 5\)"),
        (lambda m: 0.9 * m, "one in sum"),
        (lambda m: m.flip(0), "must begin with pure noise"),
        (lambda m: torch.stack([m[0], m[1], m[1], m[1]]), "must end clean"),
        (lambda m: torch.stack([m[0], m[2], m[1], m[3]]), "noisier version of the next"),
    ],
)
def test_matrices_that_are_no_noise_are_refused(change, message):
    noise = neighbourly(3)
    with pytest.raises(ConfigError, match=message):
        itscale.sample(exact(noise), n=2, solver=UniformNoise(transitions=change(noise)))


def test_ratios_of_hidden_tokens_are_their_law():
    def ratios(x):
        return MODEL.predict(x, torch.tensor(0.0)) + 1.7  # a / (1 - a) is the same for all tokens

    model = wrap_masked(ConcreteScores(ratios), vocabulary=4, length=5)
    assert torch.equal(
        itscale.sample(model, n=50, seed=3).samples, itscale.sample(MODEL, n=50, seed=3).samples
    )


def test_ratios_under_uniform_noise_give_the_law_of_clean_tokens():
    """Ratios of all noisy sequences of the joint law, against its conditionals, by enumeration."""
    a, x = 0.625, MODEL.sequences
    same = (x[:, None] == x[None]).double()
    noisy = ((a * same + (1 - a) / 4).prod(-1) * MODEL.law).sum(dim=1)

    def log_ratios(rows, t):
        found = torch.empty(len(rows), 5, 4, dtype=torch.float64)
        for i in range(5):
            for v in range(4):
                moved = rows.clone()
                moved[:, i] = v
                found[:, i, v] = noisy[MODEL.index(moved)] / noisy[MODEL.index(rows)]
        return found.log()

    rows, t = x[::11], torch.full((len(x[::11]),), a)
    found = ConcreteScores(log_ratios, noise="uniform")(rows, t)
    expected = noisy_model().module(rows, t.double())
    torch.testing.assert_close(found.exp(), expected.exp(), rtol=1e-6, atol=1e-9)
    start = ConcreteScores(lambda x, t: torch.zeros(*x.shape, 4), noise="uniform")(
        rows, torch.zeros(len(rows))
    )
    assert torch.allclose(start.exp(), torch.full_like(start, 0.25))
    with pytest.raises(ConfigError, match="need the time"):
        ConcreteScores(log_ratios, noise="uniform")(rows)
