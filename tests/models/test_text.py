"""The spelling of text, and the training of it in miniature."""

import gzip
import sys

import pytest
import torch
from safetensors.torch import load_file

import itscale
from itscale.errors import ConfigError
from itscale.models.text import CHARACTERS, LENGTH, SPELLING, Characters, fresh_network


def test_characters_come_back():
    spelling = Characters("ab", 3)
    assert spelling(spelling.encode(["aba", "bbb"])) == ["aba", "bbb"]


def test_texts_of_another_length_or_alphabet_are_refused():
    with pytest.raises(ConfigError, match="must have 3 characters, 'ab' has 2"):
        Characters("ab", 3).encode(["ab"])
    with pytest.raises(ConfigError, match="'c' is not in the vocabulary"):
        Characters("ab", 3).encode(["abc"])


def test_training_splits_text_and_stores_weights_that_load(tmp_path, monkeypatch):
    from itscale.experiments.train_text import main, parts

    text = (CHARACTERS * 100)[:5120]
    with gzip.open(tmp_path / "text.gz", "wt", newline="") as file:
        file.write(text)
    learned, stopping, figures = parts(tmp_path / "text.gz")
    assert learned.shape == (4608 - LENGTH + 1, LENGTH)
    assert SPELLING(learned[[7]].long()) == [text[7 : 7 + LENGTH]]
    assert stopping.shape == figures.shape == (2, LENGTH)
    assert SPELLING(figures[[0]].long()) == [text[4864 : 4864 + LENGTH]]

    options = ["train", "--minutes", "0.01", "--decay", "0.01", "--batch", "4", "--threads", "1"]
    command = ["train_text", *options, "--data", str(tmp_path / "text.gz"), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    threads = torch.get_num_threads()
    main()
    torch.set_num_threads(threads)
    fresh_network().load_state_dict(load_file(tmp_path / "text.safetensors"))


def test_the_bundled_model_writes_english():
    """The bound of Shakespeare's own lines is far below that of their letters in disorder (3.4 nats)."""
    from itscale.experiments.train_masked import bound

    model = itscale.load("text")
    text = (
        "KING RICHARD II:\nWhat must the king do now? must he submit?\n"
        "The king shall do it: must he be deposed?\nThe king shall be contented"
    )[:LENGTH]
    tokens = SPELLING.encode([text])
    disorder = tokens[:, torch.randperm(LENGTH, generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        found = [
            float(
                bound(
                    model.module, rows.expand(16, -1), SPELLING.vocabulary, torch.Generator().manual_seed(0)
                )
            )
            for rows in (tokens, disorder)
        ]
    assert found[0] < 2.2
    assert found[1] > 3.2


def test_texts_begin_as_they_are_told():
    result = itscale.sample(itscale.load("text"), n=2, steps=2, initial="ROMEO:\n", seed=0)
    assert result.modality == "text"
    assert all(text.startswith("ROMEO:\n") and len(text) == LENGTH for text in result.texts[0])
