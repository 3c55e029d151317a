"""``check_reward`` passes what is right and fails each kind of wrong reward."""

import numpy as np
import pytest
import torch

from itscale.scoring import check_reward, reward
from itscale.scoring.checking import synthetic_samples
from itscale.scoring.spec import MODALITIES

CHECKS = ["shape", "finiteness", "determinism", "permutation", "batch independence", "gradient"]


def failed(checked, **options):
    return [result.name for result in check_reward(checked, **options) if not result.passed]


def mean(images):
    return images.mean((1, 2, 3))


class HalfGradient(torch.autograd.Function):
    """The identity, with the gradient of the upper half of the image dropped."""

    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        gradient = gradient.clone()
        gradient[..., : gradient.shape[-2] // 2, :] = 0
        return gradient


class Drifting:
    """A reward that answers a little higher each time."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        return mean(images) + self.calls * 1e-6


WRONG = {
    "batch mean subtracted": (lambda images: mean(images) - mean(images).mean(), "batch independence"),
    "rank in the batch": (lambda images: mean(images).argsort().argsort().float(), "batch independence"),
    "position weighted": (lambda images: mean(images) * torch.arange(1, len(images) + 1), "permutation"),
    "prompts shifted": (
        lambda images, prompts: mean(images) + torch.tensor([float(len(p)) for p in sorted(prompts)]),
        "permutation",
    ),
    "drifting": (Drifting(), "determinism"),
    "not a number": (lambda images: mean(images).log1p().sub(10).log(), "finiteness"),
    "minus infinity": (lambda images: mean(images) - torch.inf, "finiteness"),
    "wrong length": (lambda images: mean(images)[:2], "shape"),
    "always failing": (lambda images: 1 / 0, "shape"),
    "detached": (reward(differentiable=True)(lambda images: mean(images.detach())), "gradient"),
    "numpy": (reward(differentiable=True)(lambda images: images.numpy().mean((1, 2, 3))), "gradient"),
    "rounded": (reward(differentiable=True)(lambda images: mean((images * 255).round() / 255)), "gradient"),
    "half": (reward(differentiable=True)(lambda images: mean(HalfGradient.apply(images) ** 2)), "gradient"),
    "doubled": (
        reward(differentiable=True)(lambda images: mean(images * 2 - images.detach())),
        "gradient",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_reward_fails_the_check_it_breaks(name):
    wrong, check = WRONG[name]
    assert check in failed(wrong)


@pytest.mark.parametrize(
    "right",
    [
        mean,
        reward(differentiable=True)(mean),
        reward(differentiable=True)(lambda images: mean(images**2).log() * 50),
        reward(name="long")(lambda smiles: [len(s) for s in smiles]),
        lambda texts, prompts: [len(s) + len(p) for s, p in zip(texts, prompts, strict=True)],
        reward(modality="vector", differentiable=True)(lambda x: -(x**2).sum(1) / 2),
        "0.5 * symmetry - ink",
    ],
)
def test_right_reward_passes_all(right):
    results = check_reward(right)
    assert [result.name for result in results] == CHECKS
    assert failed(right) == []


def test_noise_is_excused_when_declared():
    draws = np.random.default_rng(0)

    def noisy(images):
        return mean(images) + torch.from_numpy(draws.random(len(images)))

    assert "determinism" in failed(noisy)
    assert failed(reward(deterministic=False)(noisy)) == []


def test_number_of_samples_is_free():
    samples = synthetic_samples("ink", samples=7)
    assert "7 samples" in check_reward("ink", samples)[0].detail


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_modality_has_samples(modality):
    samples = synthetic_samples(reward(modality=modality)(lambda samples: [0.0] * len(samples)), samples=5)
    assert len(samples) == 5


def test_example_shape_is_followed():
    assert synthetic_samples(reward(example_shape=(1, 8, 8))(mean)).shape == (4, 1, 8, 8)
