"""JPEG sizes against figures measured apart, and the conventions behind them."""

import numpy as np
import pytest
import torch

from itscale.scoring import as_reward

GREY = torch.full((1, 3, 512, 512), 0.5)
NOISE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 512, 512)) / 255).float()


@pytest.mark.parametrize(
    ("images", "kilobytes", "tolerance"),
    [
        (GREY, 4.7, 0.05),
        (NOISE, 307.9, 0.5),  # draws of noise differ by about 0.2 kB
    ],
    ids=["flat grey", "uniform noise"],
)
def test_size_matches_the_golden_figure(images, kilobytes, tolerance):
    assert as_reward("jpeg-incompressibility").score(images).values.item() == pytest.approx(
        kilobytes, abs=tolerance
    )
    assert as_reward("jpeg-compressibility").score(images).values.item() == pytest.approx(
        -kilobytes, abs=tolerance
    )


@pytest.mark.parametrize(("unit", "factor"), [("B", 1000.0), ("kB", 1.0), ("MB", 1e-3)])
def test_unit_is_a_power_of_thousand(unit, factor):
    size = as_reward("jpeg-incompressibility").score(GREY).values
    torch.testing.assert_close(
        as_reward(f"jpeg-incompressibility(unit='{unit}')").score(GREY).values, size * factor
    )


def test_grey_storage_does_not_change_the_score():
    reward = as_reward("jpeg-compressibility")
    assert torch.equal(
        reward.score(NOISE[:, :1]).values, reward.score(NOISE[:, :1].expand(-1, 3, -1, -1)).values
    )


def test_lower_quality_is_smaller():
    sizes = [
        as_reward(f"jpeg-incompressibility(quality={q})").score(NOISE).values.item() for q in (20, 60, 95)
    ]
    assert sizes == sorted(sizes)


def test_size_is_that_of_a_file_on_disk(tmp_path):
    from PIL import Image

    path = tmp_path / "noise.jpg"
    pixels = (NOISE[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(path, quality=95, subsampling="4:2:0", optimize=False)
    assert as_reward("jpeg-incompressibility(unit='B')").score(NOISE).values.item() == path.stat().st_size
