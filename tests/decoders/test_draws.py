"""Draws of tokens are exact where a shortcut in float32 is not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import itscale
from itscale.decoders import UniformNoise, get_decoder
from itscale.errors import ConfigError
from itscale.models import wrap_masked
from itscale.noise import Address, Noise, Purpose
from itscale.process import Masking, TokenProcess
from itscale.process.categorical import draw_tokens
from tests.decoders.test_decoding import chi
from tests.decoders.toy import toy, tv

MODEL = toy().model


def zipf(size: int) -> Tensor:
    weights = 1 / torch.arange(1, size + 1, dtype=torch.float64)
    return weights / weights.sum()


def kept(z: Tensor) -> Tensor:
    """Share of its rate that a token keeps when ``argmax p_i dt / -log u_i`` is taken in float32.

    ``u`` is a multiple of 2^-24 there, so the clock of a token shows whole multiples of it; z is the token's
    rate against that of staying hidden, in these units. Summing over them, with an exact other clock:
    """
    return (1 / z) / torch.expm1(1 / z)


def measured(z: float) -> float:
    """The same from the logarithms that float32 really has."""
    u = 1 - torch.arange(1, 4000, dtype=torch.float64) * 2.0**-24
    clock = -torch.log(u.float()).double() * 2.0**24
    return float(torch.exp(-clock / z).sum() / z)


@pytest.mark.parametrize(
    ("z", "rate"), [(0.5, 0.313), (1.0, 0.582), (2.0, 0.771), (5.0, 0.903), (20.0, 0.975)]
)
def test_a_float32_clock_slows_rare_tokens(z, rate):
    assert float(kept(torch.tensor(z))) == pytest.approx(rate, abs=5e-4)
    assert measured(z) == pytest.approx(rate, abs=0.01)


def test_rare_tokens_of_a_large_vocabulary_are_drawn_as_often_as_they_should():
    law = zipf(50257)
    entropy = float(-(law * law.log()).sum())
    step, t = 1 / 1024, 0.5
    shortcut = law * kept(2.0**24 * law * step / (t - step))
    rate = float(shortcut.sum())
    shortcut = shortcut / rate
    of_shortcut = float(-(shortcut * shortcut.clamp(min=1e-300).log()).sum())
    assert (entropy, of_shortcut, rate) == pytest.approx((7.566, 6.043, 0.749), abs=1e-3)
    surprise = []
    noise = Noise(3)
    for batch in range(8):
        slot = torch.arange(500) + 500 * batch
        zero = torch.zeros_like(slot)
        u = noise.uniform(Purpose.USER, Address(zero, zero, slot, zero), 1)[:, 0]
        token = draw_tokens(law.log().expand(500, -1).clone(), u)
        surprise.append(-law.log()[token])
    found = torch.cat(surprise)
    error = float(found.std()) / len(found) ** 0.5
    assert abs(float(found.mean()) - entropy) < 4.89 * error
    assert abs(float(-(shortcut @ law.log())) - entropy) > 20 * error


def test_a_token_of_no_weight_is_never_drawn():
    law = torch.tensor([[-torch.inf, 0.0, -torch.inf, math.log(3), -torch.inf]], dtype=torch.float64)
    u = torch.tensor([0.0, 0.25 - 1e-12, 0.25 + 1e-12, 1 - 2.0**-53], dtype=torch.float64)
    assert draw_tokens(law.repeat(4, 1), u).tolist() == [1, 1, 3, 3]
    many = torch.linspace(0, 1 - 2.0**-53, 10_001, dtype=torch.float64)
    assert set(draw_tokens(law.repeat(10_001, 1), many).tolist()) == {1, 3}


def test_draws_of_one_row_are_those_of_its_address():
    noise, row = Noise(0), torch.arange(6)
    u = noise.uniform(Purpose.MOVE, Address(row, row, row, row), 3)
    law = torch.randn(6, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = draw_tokens(law.clone(), u)
    for k in range(6):
        assert torch.equal(draw_tokens(law[k : k + 1].clone(), u[k : k + 1])[0], whole[k])


def noisy_model(size: int = 4, length: int = 5) -> itscale.models.masked.WrappedMasked:
    """The exact network of a model trained on uniform noise."""
    clean, law = MODEL.sequences, MODEL.law

    def network(x: Tensor, t: Tensor) -> Tensor:
        a = t.double()[:, None, None]
        same = (x[:, None] == clean[None]).double()
        chance = (a * same + (1 - a) / size).prod(-1) * law
        chance = chance / chance.sum(1, keepdim=True)
        hot = torch.nn.functional.one_hot(clean, size).double().flatten(1)
        return (chance @ hot).unflatten(1, (length, size)).clamp(min=1e-300).log()

    return wrap_masked(network, vocabulary=size, length=length, time=True, noise="uniform")


def uniform_law(steps: int) -> Tensor:
    """Law of samples by moving mass through all 1,024 noisy sequences."""
    model = noisy_model()
    process = TokenProcess(model, Masking())
    kernel = get_decoder("uniform-noise").build(process, steps)
    mass = torch.full((1024,), 1 / 1024, dtype=torch.float64)
    for level in range(steps):
        at = process.evaluate(MODEL.sequences + model.tokens.offset, kernel.times[level])
        law = kernel.law(at, level).exp().reshape(1024, 5, 4)  # type: ignore[attr-defined]
        assert torch.allclose(law.sum(-1), torch.ones(()).double(), atol=1e-12)
        flow = mass[:, None]
        for i in range(5):
            flow = (flow[..., None] * law[:, None, i]).reshape(1024, -1)
        mass = flow.sum(0)
    return mass


def test_uniform_noise_converges_at_first_order_and_its_last_step_is_clean():
    off = [tv(uniform_law(steps), MODEL.law) for steps in (3, 6, 12)]
    for finer, coarser in zip(off[1:], off, strict=False):
        assert 0.4 < finer / coarser < 0.65
    assert off[-1] < 0.08


def test_uniform_noise_samples_have_their_law_and_keep_what_is_given():
    result = itscale.sample(noisy_model(), n=6000, steps=3, solver="uniform-noise")
    assert abs(chi(MODEL.histogram(result.states), uniform_law(3), 6000)) < 4.89
    assert result.spent.nfe == [3 * 6000]
    given = torch.tensor([3, 4, 4, 4, 0])
    some = itscale.sample(noisy_model(), n=20, steps=6, solver="uniform-noise", initial=given)
    assert (some.states[..., [0, 4]] == torch.tensor([3, 0])).all()
    assert (some.states < 4).all()


def test_uniform_noise_is_steered_as_other_models_are():
    model, reward = noisy_model(), toy().reward
    rewards = toy().rewards
    tilted = uniform_law(3) * rewards.exp()
    log_z, mean = float(tilted.sum().log()), float(tilted @ rewards / tilted.sum())
    result = itscale.sample(
        model,
        reward=reward,
        method=itscale.methods.SMC(particles=16),
        steps=4,
        solver=UniformNoise(),
        groups=150,
    )
    evidence = (result.log_evidence - log_z).exp()
    per_group = result.expect(result.rewards).per_group
    for estimate, expected in ((evidence, 1.0), (evidence * (per_group - mean), 0.0)):
        assert abs(float(estimate.mean()) - expected) < 4.89 * float(estimate.std()) / 150**0.5


def test_noise_and_decoder_must_fit():
    with pytest.raises(ConfigError, match="noise='uniform'"):
        itscale.sample(MODEL, n=2, solver="uniform-noise")
    for name in ("first-hitting", "ancestral", "confidence", "maskgit", "greedy", "saber", "remdm"):
        with pytest.raises(ConfigError, match="solver='uniform-noise'"):
            itscale.sample(noisy_model(), n=2, solver=name)
