"""The generator: equal seeds, objects that keep apart, scenes that are what their prompt says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from itscale.scenes import KINDS, SIDE, parse, random_prompts, random_scenes
from itscale.scenes.drawing import AREAS, draw
from itscale.scenes.generator import APART, SIZES


@pytest.fixture(scope="module")
def scenes():
    return random_scenes(random_prompts(300, seed=0), seed=1)


def test_seed_decides_everything(scenes):
    again = random_scenes(random_prompts(300, seed=0), seed=1)
    assert torch.equal(again.images(), scenes.images())
    assert not torch.equal(random_scenes(scenes.prompts, seed=2).images(), scenes.images())
    assert random_prompts(20, seed=1) != random_prompts(20, seed=0)


def test_global_generators_play_no_part(scenes):
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    again = random_scenes(random_prompts(300, seed=0), seed=1)
    assert torch.equal(again.images(), scenes.images())


def test_images_are_bright_grounds_with_colours(scenes):
    images = scenes.images()
    assert images.shape == (300, 3, SIDE, SIDE)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    corner = images[:, :, 0, 0]
    torch.testing.assert_close(corner, scenes.grounds[:, None].float().expand(-1, 3))


def test_objects_keep_an_empty_pixel_between_them(scenes):
    """Each object drawn alone: no pixel that it covers by half touches one of another object."""
    supports = []
    for k in range(scenes.kinds.shape[1]):
        here = slice(k, k + 1)
        alone = draw(
            scenes.kinds[:, here],
            scenes.centres[:, here],
            scenes.sizes[:, here],
            scenes.tints[:, here],
            scenes.grounds,
        )
        ground = scenes.grounds[:, None, None, None].float()
        # a full cover changes some channel by 0.7 to 0.9
        supports.append(((alone - ground).abs().amax(dim=1, keepdim=True) > 0.35).float())
    for k, one in enumerate(supports):
        around = F.max_pool2d(one, 3, stride=1, padding=1)
        assert all((around * other).sum() == 0 for other in supports[k + 1 :])


def test_drawn_area_is_that_of_the_shape():
    """Pixels inside, counted by their cover: within 4 % of the area, what blunted corners take away."""
    n = 60
    draws = torch.Generator().manual_seed(0)
    kinds = torch.arange(n)[:, None] % 3
    centres = 14 + 4 * torch.rand(n, 1, 2, generator=draws, dtype=torch.float64)
    sizes = SIZES[0] + (SIZES[1] - SIZES[0]) * torch.rand(n, 1, generator=draws, dtype=torch.float64)
    nothing, ground = torch.zeros(n, 1, 3, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    green = draw(kinds, centres, sizes, nothing, ground)[:, 1]  # kinds 0 to 2 are red: 1 to 0.16 in green
    areas = ((1 - green) / (1 - 0.16)).sum(dim=(1, 2))
    expected = torch.tensor(AREAS)[kinds[:, 0]] * sizes[:, 0].square()
    assert ((areas / expected - 1).abs() < 0.04).all()


def test_scenes_satisfy_their_prompts(scenes):
    for i, prompt in enumerate(scenes.prompts):
        items = scenes.items(i)
        kinds = [KINDS.index(item.kind) for item in items]
        assert tuple(np.bincount(kinds, minlength=len(KINDS))) == prompt.counts
        assert all(SIZES[0] <= item.size <= SIZES[1] for item in items)
        assert all(2 < item.x < SIDE - 2 and 2 < item.y < SIDE - 2 for item in items)
        if prompt.relation:
            left, right = (items[kinds.index(kind)] for kind in prompt.relation)
            assert right.x - left.x >= APART


def test_random_prompts_cover_every_number_kind_and_relations():
    prompts = random_prompts(2000, seed=3)
    totals = np.bincount([sum(prompt.counts) for prompt in prompts], minlength=6) / 2000
    # four standard errors of a share of 0.25
    np.testing.assert_allclose(totals[1:], [0.1, 0.2, 0.25, 0.25, 0.2], atol=4 * (0.25 * 0.75 / 2000) ** 0.5)
    assert (np.array([prompt.counts for prompt in prompts]).sum(axis=0) > 200).all()
    assert 0.15 < np.mean([prompt.relation is not None for prompt in prompts]) < 0.3


def test_crowded_prompt_is_placed():
    prompts = [parse("5 green triangles")] * 50
    assert ((random_scenes(prompts, seed=0).kinds >= 0).sum(dim=1) == 5).all()
