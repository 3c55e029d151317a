"""Preprocessing against the published transforms, and the two forms of it against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import functional as TF

from itscale.vision.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing, as_pillow
from tests.tiny_scorers import images

SIZES = [(48, 48), (64, 48), (45, 83), (20, 31), (32, 32), (33, 32)]
LEVEL = 1 / 255 / min(CLIP_STD)
"""One grey level after normalising."""


def tensors(pictures: list[Image.Image]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in pictures]).float() / 255


@pytest.mark.parametrize("size", SIZES)
def test_crop_is_that_of_torchvision(size):
    batch = images(2, *size)
    published = T.Compose(
        [T.Resize(32, interpolation=T.InterpolationMode.BICUBIC), T.CenterCrop(32), T.ToTensor(),
         T.Normalize(CLIP_MEAN, CLIP_STD)]
    )  # fmt: skip
    expected = torch.stack([published(picture) for picture in as_pillow(batch)])
    torch.testing.assert_close(Preprocessing((32, 32)).eight_bit(batch), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_padding_is_that_of_hps(size):
    """To floats first, the longer side to size, black around it, then normalised."""
    batch = images(2, *size)

    def published(picture):
        image = TF.to_tensor(picture)
        height, width = image.shape[1:]
        scale = 32 / max(height, width)
        if scale != 1.0:
            new = [round(side * scale) for side in (height, width)]
            image = TF.resize(image, new, T.InterpolationMode.BICUBIC, antialias=True)
            down, right = 32 - new[0], 32 - new[1]
            image = TF.pad(image, [right // 2, down // 2, right - right // 2, down - down // 2], fill=0)
        return TF.normalize(image, CLIP_MEAN, CLIP_STD)

    expected = torch.stack([published(picture) for picture in as_pillow(batch)])
    if size == (33, 32):
        assert expected.shape[2:] == (32, 32)
    ours = Preprocessing((32, 32), fit="pad", resizes="floats")
    torch.testing.assert_close(ours.eight_bit(batch), expected, rtol=0, atol=1e-6)
    # rounding to 8 bits moves a pixel by half a level, and bicubic weights add up to 1.4 at most
    assert (ours.floats(batch) - expected).abs().max() < 0.7 * LEVEL


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("mode", "fit"), [("shortest", "crop"), ("longest", "pad"), ("squash", "stretch")])
@pytest.mark.parametrize("target", [32, (24, 40)])
def test_every_mode_is_that_of_open_clip(size, mode, fit, target):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from itscale.vision.open_clip_source import preprocessing_of

    facts = {"size": target, "resize_mode": mode, "fill_color": 40, "mean": CLIP_MEAN, "std": CLIP_STD}
    published = image_transform_v2(PreprocessCfg(**facts), is_train=False)
    batch = images(2, *size)
    expected = torch.stack([published(picture) for picture in as_pillow(batch)])
    ours = preprocessing_of({**facts, "mode": "RGB", "interpolation": "bicubic"})
    assert ours.fit == fit
    torch.testing.assert_close(ours.eight_bit(batch), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_crop_is_that_of_transformers(size, tmp_path):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from itscale.vision.clip_folder import read_preprocessing

    published = CLIPImageProcessorPil(size={"shortest_edge": 34}, crop_size={"height": 31, "width": 31})
    published.save_pretrained(tmp_path)
    batch = images(2, *size)
    expected = published(as_pillow(batch), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(read_preprocessing(tmp_path).eight_bit(batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_both_forms_agree_to_about_a_grey_level(size, fit):
    ours = Preprocessing((32, 32), fit=fit)
    batch = images(3, *size)
    apart = (ours.floats(batch) - ours.eight_bit(batch)).abs()
    # Pillow rounds three times, by half a level each: the image, between two passes, and at the end
    assert apart.max() < 2 * LEVEL
    assert apart.mean() < 0.4 * LEVEL


def test_overshoot_is_clipped_where_bytes_are_resized():
    board = (torch.arange(60) // 20 % 2).float().expand(1, 3, 60, 60)
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    clipped = Preprocessing((32, 32), **plain).floats(board)
    assert clipped.min() == 0
    assert clipped.max() == 1
    assert Preprocessing((32, 32), resizes="floats", **plain).floats(board).max() > 1


def test_wide_image_keeps_its_shape_when_padded():
    wide = images(1, 32, 96)
    padded = Preprocessing((32, 32), fit="pad").floats(wide)
    black = (0 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(padded[0, :, :10, :], black[:, None, None].expand(3, 10, 32))
    assert (padded[0, :, 15, :] - black[:, None]).abs().min() > 0.1
    assert (Preprocessing((32, 32)).floats(wide) - padded).abs().max() > 0.5


def test_gradient_reaches_every_pixel_that_is_seen():
    batch = images(1, 64, 48).requires_grad_(True)
    weights = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours = Preprocessing((32, 32))
    (ours.floats(batch) * weights).sum().backward()
    seen = slice(8, 56)  # the rest is cut off
    assert (batch.grad[:, :, seen] != 0).all()
    direction = torch.randn(batch.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ahead, behind = ((ours.floats(batch + s * 1e-3 * direction) * weights).sum() for s in (1, -1))
    measured = (ahead - behind) / 2e-3
    torch.testing.assert_close((batch.grad * direction).sum(), measured, rtol=1e-2, atol=0)


def test_image_of_the_right_size_is_only_normalised():
    batch = images(1, 32, 32)
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (CLIP_MEAN, CLIP_STD))
    torch.testing.assert_close(Preprocessing((32, 32)).floats(batch), (batch - mean) / std)
    rounded = (batch * 255).round() / 255
    torch.testing.assert_close(Preprocessing((32, 32)).eight_bit(batch), (rounded - mean) / std)


def test_golden_values():
    """Halving a ramp keeps it straight: away from the ends each value is the mean of two neighbours."""
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    plain = Preprocessing((32, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).floats(ramp)
    middle = F.avg_pool2d(ramp, 2)[..., 4:-4]
    torch.testing.assert_close(plain[..., 4:-4], middle, rtol=0, atol=1e-5)
