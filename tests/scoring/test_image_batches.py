"""``as_image_batch`` on every form of image."""

import numpy as np
import pytest
import torch
from PIL import Image

from itscale.errors import RewardError
from itscale.scoring import as_image_batch

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3) * 4  # height 5, width 4
EXPECTED = torch.from_numpy(PIXELS.astype(np.float32) / 255).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    "given",
    [
        Image.fromarray(PIXELS),
        [Image.fromarray(PIXELS)],
        PIXELS,
        PIXELS[None],
        [PIXELS],
        PIXELS.astype(np.float32) / 255,
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        EXPECTED,
        EXPECTED[0],
        Image.fromarray(np.dstack([PIXELS, np.full((5, 4), 7, np.uint8)]), "RGBA"),
    ],
    ids=["pil", "pils", "hwc", "nhwc", "list", "float hwc", "tensor", "chw", "batch", "single", "alpha"],
)
def test_forms_of_one_colour_image_agree(given):
    torch.testing.assert_close(as_image_batch(given), EXPECTED)


@pytest.mark.parametrize(
    "given",
    [Image.fromarray(PIXELS[..., 0]), PIXELS[..., 0], PIXELS[..., :1], PIXELS[None, ..., :1]],
    ids=["pil", "hw", "hw1", "nhw1"],
)
def test_forms_of_one_grey_image_agree(given):
    torch.testing.assert_close(as_image_batch(given), EXPECTED[:, :1])


def test_batch_passes_untouched_with_its_gradient():
    x = EXPECTED.clone().requires_grad_(True)
    assert as_image_batch(x) is x


def test_black_and_white_images_are_zero_and_one():
    bits = np.array([[True, False]])
    assert as_image_batch(bits).flatten().tolist() == [1.0, 0.0]
    assert as_image_batch(Image.fromarray(bits)).unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "given",
    [[], np.zeros(3), np.zeros((2, 5, 5)), np.zeros((2, 4, 5, 5)), [np.zeros((5, 5)), np.zeros((4, 5))]],
    ids=["none", "flat", "two channels", "four channels", "sizes differ"],
)
def test_what_is_no_image_is_refused(given):
    with pytest.raises(RewardError):
        as_image_batch(given)
