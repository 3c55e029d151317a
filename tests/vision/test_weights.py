"""Files of weights: found where they are looked for, complete or refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from itscale.errors import ConfigError
from itscale.vision import places
from itscale.vision.linear_head import linear_head
from itscale.vision.places import FOLDER_VARIABLE, MissingWeights, Weights
from itscale.vision.states import fill, frozen, read_state

NEEDS = Weights("judge", ("a.pt", "b.json|c.json"), "MIT", hub="someone/judge", size="3 GB")


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "base"))
    monkeypatch.setattr(places, "hub_folder", lambda *a: None)
    (tmp_path / "base" / "judge").mkdir(parents=True)
    return tmp_path / "base" / "judge"


def test_missing_files_are_named_with_place_licence_and_ways_out(base):
    (base / "a.pt").touch()
    with pytest.raises(MissingWeights) as caught:
        NEEDS.folder()
    for part in (
        "'judge'",
        "a.pt",
        "b.json or c.json",
        "MIT",
        "3 GB",
        str(base),
        "weights=PATH",
        "someone/judge",
    ):
        assert part in str(caught.value)


def test_folder_that_was_given_is_the_only_place(base, tmp_path):
    for name in ("a.pt", "c.json"):
        (base / name).touch()
    assert NEEDS.folder() == base
    assert NEEDS.is_found()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "other.bin").touch()
    with pytest.raises(MissingWeights, match=r"there: other\.bin"):
        NEEDS.folder(tmp_path / "mine")
    with pytest.raises(MissingWeights, match="no such folder"):
        NEEDS.folder(tmp_path / "nowhere")


def test_single_file_may_have_any_name(base, tmp_path):
    single = Weights("judge", ("a.pt",), "MIT")
    (tmp_path / "renamed.pt").touch()
    assert single.file(tmp_path / "renamed.pt") == tmp_path / "renamed.pt"
    (base / "a.pt").touch()
    assert single.file() == base / "a.pt"
    assert single.file(base) == base / "a.pt"


def test_nothing_is_downloaded_unasked(base, monkeypatch, tmp_path):
    import huggingface_hub

    asked = []

    def snapshot(repository, allow_patterns, local_files_only):
        asked.append((repository, allow_patterns, local_files_only))
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        for name in ("a.pt", "b.json"):
            (tmp_path / name).touch()
        return str(tmp_path)

    monkeypatch.undo()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "base"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(MissingWeights):
        NEEDS.folder()
    assert asked == [("someone/judge", ["a.pt", "b.json", "c.json"], True)]
    assert NEEDS.folder(allow_download=True) == tmp_path
    assert asked[1][2] is False


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)


def test_complete_state_is_loaded_and_frozen(tmp_path):
    source = Pair()
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "w.pt")
    module = frozen(fill(Pair(), read_state(tmp_path / "w.pt"), "w.pt"))
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), source.parameters(), strict=True))


def test_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    state = Pair().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    assert read_state(tmp_path / "w.safetensors").keys() == state.keys()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("first.bias"), "1 missing: first.bias"),
        (lambda s: s.update(odd=torch.zeros(1)), "1 unexpected: odd"),
        (lambda s: s.update({"second.weight": torch.zeros(2, 3)}), r"second.weight \[2, 3\] for \[1, 3\]"),
        (
            lambda s: s.update({f"x{i}": torch.zeros(1) for i in range(9)}),
            "9 unexpected: x0, x1, x2, x3, x4, ...",
        ),
    ],
)
def test_state_that_does_not_fit_is_refused_with_names(change, said):
    state = Pair().state_dict()
    change(state)
    with pytest.raises(ConfigError, match=said):
        fill(Pair(), state, "w.pt")


def test_broken_or_foreign_file_is_refused(tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ConfigError, match=r"cannot read weights from .*broken.pt"):
        read_state(tmp_path / "broken.pt")
    torch.save({"a": 1}, tmp_path / "odd.pt")
    with pytest.raises(ConfigError, match="not a dictionary of tensors"):
        read_state(tmp_path / "odd.pt")
    torch.save(Pair(), tmp_path / "object.pt")  # a pickled object is code, and is not run
    with pytest.raises(ConfigError, match="cannot read weights"):
        read_state(tmp_path / "object.pt")


def test_linear_head_says_what_it_lacks():
    with pytest.raises(ConfigError, match="holds no linear head; its names start with a"):
        linear_head({"a": torch.zeros(1)}, "x.pth")
    with pytest.raises(ConfigError, match=r"missing: 0\.bias"):
        linear_head({"0.weight": torch.zeros(1024, 8)}, "x.pth")
