"""Finding objects again: labels against another implementation, counts against the generator."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from itscale.scenes import KINDS, find, parse, random_prompts, random_scenes
from itscale.scenes.drawing import draw
from itscale.scenes.regions import OTHER, label, segment


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_labels_are_those_of_another_implementation(share):
    draws = np.random.default_rng(0)
    classes = np.where(draws.random((6, 20, 20)) < share, draws.integers(0, 2, (6, 20, 20)), -1)
    labels = label(torch.from_numpy(classes)).numpy()
    for image, found in zip(classes, labels, strict=True):
        assert ((found == 0) == (image == -1)).all()
        regions = 0
        for c in range(2):
            expected, count = scipy.ndimage.label(image == c, np.ones((3, 3)))
            pairs = np.unique(np.stack([expected, found])[:, expected > 0], axis=1)
            assert pairs.shape[1] == count == len(np.unique(pairs[1]))
            regions += count
        assert len(np.unique(found[found > 0])) == regions


def test_spiral_is_one_region():
    """The longest way inside one region: the labels must not stop half-way."""
    snake = torch.full((1, 31, 31), -1)
    snake[:, ::2] = 0
    snake[:, 1::4, -1], snake[:, 3::4, 0] = 0, 0
    assert label(snake).unique().tolist() == [0, 31 * 31]


def test_half_covered_edge_has_the_colour_of_its_object():
    half_red = 0.5 * torch.tensor([0.86, 0.16, 0.16]) + 0.5 * 0.94
    classes = segment((half_red - 0.01).reshape(1, 3, 1, 1)).classes
    assert classes.item() == 0  # the nearest colour of the palette would be yellow


@pytest.mark.parametrize("grey", [0.0, 0.1])
def test_black_is_no_colour(grey):
    assert segment(torch.full((1, 3, 2, 2), grey)).classes.unique().item() == OTHER


def test_generated_scenes_are_counted_right():
    """The true share is above 99.9 %: 4,000 scenes without a mistake."""
    scenes = random_scenes(random_prompts(600, seed=10), seed=11)
    found = find(scenes.images())
    wanted = torch.tensor([prompt.counts for prompt in scenes.prompts])
    is_right = (found.counts == wanted).all(dim=1) & (found.odd == 0)
    assert is_right.float().mean() >= 0.995


def test_positions_are_those_of_the_generator():
    scenes = random_scenes([parse("a red circle left of a blue triangle")] * 100, seed=0)
    found = find(scenes.images())
    for i in range(100):
        for item in scenes.items(i):
            # a tenth of a pixel: colours between 8-bit levels do not matter, blunted corners are symmetric
            assert found.x[i, KINDS.index(item.kind)] == pytest.approx(item.x, abs=0.1)
    assert found.x.isnan().sum() == 100 * 10


def test_images_do_not_influence_each_other():
    images = random_scenes(random_prompts(12, seed=5), seed=6).images()
    noisy = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = torch.cat([images, noisy, (images + noisy) / 2])
    together, alone = find(images), [find(image[None]) for image in images]
    assert torch.equal(together.counts, torch.cat([one.counts for one in alone]))
    assert torch.equal(together.odd, torch.cat([one.odd for one in alone]))


def pair(distance: float) -> torch.Tensor:
    """Two red circles at a distance, level."""
    centres = torch.tensor([[[10.0, 16.0], [10.0 + distance, 16.0]]])
    return draw(
        torch.tensor([[0, 0]]),
        centres,
        torch.tensor([[4.0, 4.0]]),
        torch.zeros(1, 2, 3),
        torch.ones(1) * 0.94,
    )


def test_two_objects_that_touch_are_one_odd_region():
    apart, touching = find(pair(11.0)), find(pair(8.0))
    assert (apart.counts[0, 0].item(), apart.odd.item()) == (2, 0)
    assert (touching.counts.sum().item(), touching.odd.item()) == (0, 1)


def test_empty_scene_and_specks_hold_nothing():
    images = torch.full((2, 3, 32, 32), 0.94)
    images[1, :, 4:7, 4:7] = 0.0
    found = find(images)
    assert found.counts.sum() == 0
    assert found.odd.tolist() == [0, 0]


def test_blot_of_no_colour_is_odd():
    images = torch.full((1, 3, 32, 32), 0.94)
    images[:, :, 4:12, 4:12] = 0.0
    assert find(images).odd.item() == 1
