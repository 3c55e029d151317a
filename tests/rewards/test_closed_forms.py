"""The image rewards with closed forms, on images whose score is known."""

import pytest
import torch

from itscale.errors import ConfigError
from itscale.scoring import as_reward

SIDE = 8
LEFT_HALF = torch.zeros(1, 1, SIDE, SIDE)
LEFT_HALF[..., : SIDE // 2] = 1.0
TOP_HALF = LEFT_HALF.transpose(2, 3)
QUARTER = LEFT_HALF * TOP_HALF
FLAT = torch.full((1, 1, SIDE, SIDE), 0.3)
BOARD = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)).remainder(2).float()[None, None]
RED = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("text", "image", "value"),
    [
        ("symmetry", LEFT_HALF, -1),
        ("symmetry", TOP_HALF, 0),
        ("symmetry(axis='h')", LEFT_HALF, -1),
        ("symmetry(axis='v')", LEFT_HALF, 0),
        ("symmetry(axis='v')", TOP_HALF, -1),
        ("symmetry(axis='both')", LEFT_HALF, -0.5),
        ("symmetry(axis='both')", QUARTER, -0.5),
        ("symmetry(rotation=1)", LEFT_HALF, -0.5),
        ("symmetry(rotation=2)", LEFT_HALF, -1),
        ("symmetry(rotation=3)", LEFT_HALF, -0.5),
        ("symmetry(rotation=2)", BOARD, 0),
        ("brightness", FLAT, 0.3),
        ("brightness", LEFT_HALF, 0.5),
        ("brightness", RED, 0.299),
        ("ink", LEFT_HALF, 0.5),
        ("ink", QUARTER, 0.25),
        ("ink", RED, 1 / 3),
        ("contrast", FLAT, 0),
        ("contrast", LEFT_HALF, 0.5),
        ("contrast", QUARTER, 0.1875**0.5),
        ("total-variation", FLAT, 0),
        ("total-variation", BOARD, 1),
        ("total-variation", LEFT_HALF, 1 / 7 / 2),
        ("smoothness", BOARD, -1),
        ("smoothness", TOP_HALF, -1 / 7 / 2),
    ],
)
def test_known_image_has_its_score(text, image, value):
    # 1e-5: the contrast of a flat image is the root of 1e-12, the rest is float32 rounding
    assert as_reward(text).score(image).values.item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("symmetry(axis='d')", "axis is 'd'; choose one of 'h', 'v', 'both'"),
        ("symmetry(axis='bth')", "Did you mean 'both'"),
        ("symmetry(rotation=4)", "rotation is 4"),
        ("digit(label=10)", "label is 10; give a digit from 0 to 9"),
        ("digit(label='7')", "label is '7'"),
        ("digit-judge(label=True)", "label is True"),
        ("jpeg-compressibility(unit='kb')", "unit is 'kb'.*Did you mean"),
        ("jpeg-compressibility(quality=0)", "quality is 0; give a whole number from 1 to 95"),
        ("jpeg-incompressibility(quality=50.0)", "quality is 50.0"),
        ("jpeg-incompressibility(quality=96)", "quality is 96"),
    ],
)
def test_impossible_argument_names_field_value_and_fix(text, said):
    with pytest.raises(ConfigError, match=said):
        as_reward(text)


def test_quarter_turn_needs_square_images():
    with pytest.raises(ConfigError, match="rotation=1 needs square images, got 4 x 8"):
        as_reward("symmetry(rotation=1)").score(torch.zeros(1, 1, 4, 8))
    assert as_reward("symmetry(rotation=2)").score(torch.zeros(1, 1, 4, 8)).values.item() == 0
