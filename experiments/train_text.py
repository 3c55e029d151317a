"""Train the bundled masked model of text, character by character, on tinyshakespeare.

    python -m itscale.experiments.train_text train --data tinyshakespeare.txt.gz --out runs --minutes 60
    python -m itscale.experiments.train_text publish --out runs

Every window of 128 characters of the first 90 % is a training row; of the rest, the first half says when to
stop and the second half is for figures. The run resumes from its checkpoint in ``--out``
(``train_masked.py``); with ``--patience`` the rate begins to fall once the held-out bound no longer does.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
from pathlib import Path

import torch
from itscale.experiments.train_masked import add_arguments, train
from torch import Tensor

from itscale.models.text import CHARACTERS, LENGTH, SPELLING, fresh_network


def parts(path: str | Path) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of the training text (overlapping), and of both halves of the held-out text (side by side)."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        text = file.read()
    number = {character: i for i, character in enumerate(CHARACTERS)}
    tokens = torch.tensor([number[character] for character in text], dtype=torch.uint8)
    ends = round(0.9 * len(tokens)), round(0.95 * len(tokens))
    learned, stopping, figures = tokens.tensor_split(ends)
    return learned.unfold(0, LENGTH, 1), stopping.unfold(0, LENGTH, LENGTH), figures.unfold(0, LENGTH, LENGTH)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("command", choices=["train", "publish"])
    parser.add_argument("--data", help="tinyshakespeare.txt.gz")
    parser.add_argument("--weights", default="itscale/networks/weights/text.safetensors")
    parser.add_argument("--dropout", type=float, default=0.1)
    add_arguments(parser)
    args = parser.parse_args()
    if args.command == "publish":
        shutil.copyfile(Path(args.out) / "text.safetensors", args.weights)
        return
    if not args.data:
        parser.error("--data is needed, the text to learn from")
    learned, stopping, _ = parts(args.data)
    train("text", lambda: fresh_network(args.dropout), SPELLING.vocabulary, learned, stopping, args)


if __name__ == "__main__":
    main()
