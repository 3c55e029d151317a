"""Names, files and tags of open_clip; and the activations that load cleanly and score wrongly."""

from __future__ import annotations

import open_clip
import pytest
import torch

from itscale.errors import ConfigError
from itscale.scoring import as_reward
from itscale.vision import open_clip_source
from itscale.vision.open_clip_source import OpenClip
from itscale.vision.places import MissingWeights
from tests.tiny_scorers import OPEN_CLIP, PROMPTS, images, open_clip_folder, shake

FACTS = {"prompts": PROMPTS}


@pytest.fixture
def registry(monkeypatch):
    """Two tiny architectures that differ in their activation alone, and one that exists once."""
    for name, extra in {"tiny": {}, "tiny-quickgelu": {"quick_gelu": True}, "single": {}}.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, {**OPEN_CLIP, **extra})
    tags = {
        "quick": {"hf_hub": "someone/quick/", "quick_gelu": True},
        "plain": {"hf_hub": "someone/plain/", "mean": (0.4, 0.4, 0.4), "std": (0.2, 0.2, 0.2)},
    }
    for name in ("tiny", "tiny-quickgelu"):
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, tags)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "single", {"plain": tags["plain"]})


@pytest.fixture
def file(tmp_path, registry):
    model = shake(open_clip.CLIP(**OPEN_CLIP, quick_gelu=True), 1.5)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_activation_of_a_file_must_be_said_where_there_are_two(file):
    with pytest.raises(
        ConfigError, match=r"'tiny' exists with both.*model='tiny-quickgelu'.*quick_gelu=True"
    ):
        as_reward({"name": "clip-score", "model": "tiny", "weights": str(file)})
    with pytest.raises(ConfigError, match="is the one with quick GELU"):
        OpenClip("tiny-quickgelu", str(file), quick_gelu=False).check()


def test_the_wrong_activation_would_score_wrongly(file):
    def score(**options):
        given = {"name": "clip-score", "weights": str(file), **options}
        return as_reward(given).score(images(), FACTS).values

    named, said = score(model="tiny-quickgelu"), score(model="tiny", quick_gelu=True)
    assert torch.equal(named, said)
    assert (score(model="tiny", quick_gelu=False) - said).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("model", "tag", "right"), [("tiny", "quick", "tiny-quickgelu"), ("tiny-quickgelu", "plain", "tiny")]
)
def test_tag_with_the_other_activation_is_refused(registry, model, tag, right):
    with pytest.raises(ConfigError, match=f"would load and score wrongly. Use model='{right}'"):
        OpenClip(model, tag).check()


def test_the_published_trap_is_known():
    """OpenAI's weights go into ViT-L-14 without complaint, and were trained with the other activation."""
    with pytest.raises(ConfigError, match="Use model='ViT-L-14-quickgelu'"):
        OpenClip("ViT-L-14", "openai").check()


def test_tag_is_read_from_the_cache_with_its_preprocessing(registry, file, monkeypatch, tmp_path):
    asked = []

    def hub(repository, names, allow_download):
        asked.append((repository, allow_download))
        return tmp_path / "snapshot" if (tmp_path / "snapshot").is_dir() else None

    monkeypatch.setattr(open_clip_source, "hub_folder", hub)
    with pytest.raises(MissingWeights, match="allow_download=True"):
        OpenClip("tiny", "plain").check()
    assert asked == [("someone/plain", False)]
    (tmp_path / "snapshot").mkdir()
    file.rename(tmp_path / "snapshot" / "open_clip_pytorch_model.bin")
    pair = OpenClip("tiny", "plain").check().load(torch.device("cpu"))
    assert pair.preprocessing.mean == (0.4, 0.4, 0.4)


def test_file_of_a_family_with_other_statistics_is_refused(registry, file):
    with pytest.raises(ConfigError, match=r"another preprocessing than CLIP's.*local-dir:FOLDER"):
        OpenClip("single", str(file)).check()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (OpenClip("ViT-L-144", "openai"), "no model 'ViT-L-144'. Did you mean .*'ViT-L-14'"),
        (OpenClip("ViT-L-14"), "architecture without weights; add weights=FILE or a tag such as openai"),
        (
            OpenClip("ViT-B-32", "laion2b_s34b_b79"),
            "neither a file nor a tag.*Did you mean 'laion2b_s34b_b79k'",
        ),
        (OpenClip("local-dir:/nowhere"), "lacks open_clip_config.json and weights such as.*no such folder"),
        (OpenClip("local-dir:/nowhere", "openai"), "brings its weights; leave weights='openai' out"),
    ],
)
def test_wrong_name_is_said(source, said):
    with pytest.raises(ConfigError, match=said):
        source.check()


def test_compiled_archive_is_refused(tmp_path, registry):
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "ViT-L-14.pt")
    with pytest.raises(ConfigError, match="TorchScript archive, as OpenAI publishes them"):
        OpenClip("tiny", str(tmp_path / "ViT-L-14.pt"), quick_gelu=True).check()


def test_folder_states_its_preprocessing(tmp_path):
    folder = open_clip_folder(tmp_path, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], resize_mode="squash")
    pair = OpenClip(f"local-dir:{folder}").check().load(torch.device("cpu"))
    assert (pair.preprocessing.mean, pair.preprocessing.fit) == ((0.5, 0.5, 0.5), "stretch")


def test_folder_needs_a_library_that_reads_folders(tmp_path, monkeypatch):
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.32.0")
    with pytest.raises(ConfigError, match=r"needs open-clip-torch 3, and 2\.32\.0 is installed"):
        OpenClip(f"local-dir:{open_clip_folder(tmp_path)}").check()
