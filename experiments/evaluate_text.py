"""Measure the published model of text: the bound on held-out text, and samples to read.

python -m itscale.experiments.evaluate_text --data tinyshakespeare.txt.gz --out runs/text
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections import Counter
from pathlib import Path

import torch
from itscale.experiments.train_masked import bound
from itscale.experiments.train_text import parts
from torch import Tensor

from itscale.models.loading import load
from itscale.models.text import LENGTH, SPELLING
from itscale.sampling import sample

PROMPT = "ROMEO:\nO my lady,"


def bits(network: torch.nn.Module, tokens: Tensor, passes: int) -> tuple[float, float]:
    """The bound on -log p per character in nats, and its standard error over passes of random masks."""
    generator, found = torch.Generator().manual_seed(1), []
    with torch.no_grad():
        for _ in range(passes):
            batches = [
                bound(network, b.long(), SPELLING.vocabulary, generator) * len(b) for b in tokens.split(256)
            ]
            found.append(float(torch.stack(batches).sum()) / len(tokens))
    values = torch.tensor(found)
    return float(values.mean()), float(values.std() / passes**0.5)


def words(text: str) -> list[str]:
    """Words of a text, cut ones left out."""
    return re.findall(r"[A-Za-z']+", text)[1:-1]


def unigrams(data: str | Path) -> float:
    """Nats per character of held-out text under the shares of characters in the training text."""
    learned, _, figures = parts(data)
    count = torch.bincount(learned[:, 0].long(), minlength=SPELLING.vocabulary).double() + 0.5
    return float(-(count / count.sum()).log()[figures.long()].mean())


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data", required=True, help="tinyshakespeare.txt.gz")
    parser.add_argument("--out", required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--passes", type=int, default=4, help="random masks per held-out window")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    model = load("text")
    learned, stopping, figures = parts(args.data)
    known = Counter(w for row in SPELLING(learned[::LENGTH].long()) for w in words(row))
    found: dict[str, object] = {"unigram nats": unigrams(args.data)}
    for name, rows in (
        ("test", figures),
        ("stopping", stopping),
        ("training", learned[:: len(learned) // 400]),
    ):
        nats, error = bits(model.module, rows, args.passes)
        found[name] = {"nats": nats, "error": error, "perplexity": math.exp(nats), "windows": len(rows)}
        print(name, found[name], flush=True)
    start = time.process_time()
    texts = (sample(model, n=args.samples, seed=args.seed).texts or [[]])[0]
    found["core seconds a text"] = (time.process_time() - start) / args.samples
    held = [w for row in SPELLING(figures.long()) for w in words(row)]
    drawn = [w for text in texts for w in words(text)]
    found["words of samples in the training text"] = sum(w in known for w in drawn) / len(drawn)
    found["the same for held-out text"] = sum(w in known for w in held) / len(held)
    given = sample(model, n=2, initial=PROMPT, seed=args.seed).texts
    found["texts"], found["after a prompt"] = texts[:8], (given or [[]])[0]
    (folder / "text-figures.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
