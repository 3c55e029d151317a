"""Folders, hub ids and pipeline objects become models, or errors that say what is missing."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import itscale
from itscale.errors import ConfigError, UnknownName
from tests.models.pipelines.setting import latents_of, pipe_of, sampled


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pipelines") / "tiny"
    pipe_of("stable-diffusion").save_pretrained(place)
    return place


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "tiny")


def test_folder_gives_what_the_object_gives(folder):
    mine, theirs = itscale.load(folder), itscale.load(pipe_of("stable-diffusion"))
    latents = latents_of(mine, 1)
    torch.testing.assert_close(sampled(mine, latents, 2), sampled(theirs, latents, 2))
    assert itscale.load(str(folder), dtype="float32", height=16).event_shape == (4, 8, 16)


def test_missing_parts_are_listed(copy):
    shutil.rmtree(copy / "vae")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigError) as caught:
        itscale.load(copy)
    text = str(caught.value)
    assert "vae/ (AutoencoderKL)" in text
    assert "unet/ has no weights" in text
    assert "There is: model_index.json, scheduler" in text


def test_folder_without_an_index_says_what_it_holds(tmp_path):
    (tmp_path / "weights.bin").touch()
    with pytest.raises(ConfigError, match=r"expected model_index\.json, found weights\.bin"):
        itscale.load(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        itscale.load(tmp_path)


def test_folder_of_an_unknown_class_is_an_error(copy):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "NoSuchPipeline"}))
    with pytest.raises(ConfigError, match="diffusers cannot load"):
        itscale.load(copy)


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "a/b/c"])
def test_place_that_is_no_folder(name):
    with pytest.raises(ConfigError, match="is no folder"):
        itscale.load(name)


def test_hub_is_asked_only_on_request(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="allow_download=True"):
        itscale.load("owner/no-such-model")


def test_class_without_an_adapter_is_named_with_its_neighbours():
    class StableDiffusionPipelin:
        components, scheduler = {}, None

    with pytest.raises(ConfigError, match=r"Did you mean 'StableDiffusionPipeline'.*docs/pipelines\.md"):
        itscale.load(StableDiffusionPipelin())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hieght": 32}, "Did you mean 'height'"),
        ({"height": 33}, "multiples of 2, such as 32"),
        ({"width": 0}, "multiples of 2"),
        ({"decoder": "half"}, "'full', 'tiny' or 'preview'"),
        ({"decoder": "tiny"}, "needs tiny="),
        ({"decode_rows": 0}, "decode_rows"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        itscale.load(pipe_of("stable-diffusion"), **options)


def test_options_of_a_bundled_model_are_refused():
    with pytest.raises(UnknownName, match="takes none"):
        itscale.load("digits", height=28)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (3, "is no prompt"),
        ({"prompt": 3}, "has prompt 3"),
        ({"prompt": "a cat", "negative_prompt": ["ugly"]}, "negative_prompt"),
        ({"prompt": "a cat", "ip_adapter_image": object()}, "load_ip_adapter"),
        ({"prompt": "a cat", "control_image": object()}, "ControlNet"),
    ],
)
def test_conditions_that_are_no_prompts_are_refused(condition, message):
    with pytest.raises(ConfigError, match=message):
        itscale.load(pipe_of("stable-diffusion")).encode([condition])
