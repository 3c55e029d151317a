"""Weights of every learned reward in miniature, where the bare names look for them."""

from __future__ import annotations

import pytest

from itscale.vision.image_text import resident
from itscale.vision.places import FOLDER_VARIABLE
from tests import tiny_scorers


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """A folder with one sub-folder of random weights per learned reward."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        tiny_scorers.open_clip_folder(folder / "clip-score")
        tiny_scorers.clip_folder(folder / "pickscore")
        tiny_scorers.clip_folder(folder / "clip-vit-large-patch14")
        tiny_scorers.aesthetic_file(folder / "aesthetic")
        tiny_scorers.image_reward_folder(folder / "image-reward")
        tiny_scorers.vlm_folder(folder / "vqa-score")
        tiny_scorers.detector_folder(folder / "count")
        tiny_scorers.hps_file(folder / "hps-v2", patch)
        yield folder
    resident.cache_clear()
