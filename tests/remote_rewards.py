"""Rewards for the tests of other environments: importable with numpy alone, and badly behaved on demand."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

print("printed while importing")


class Red:
    """Mean of the first channel, times a scale; prints as libraries do."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(self, images):
        print("printed while scoring")
        os.write(1, b"written to what was standard output\n")
        return self.scale * images[:, 0].mean((1, 2))


def lengths(texts, prompts=None, meta=None):
    """Length of each text beside those of its prompt and note."""
    notes = [len(m["note"]) for m in meta] if meta else [0] * len(texts)
    asked = [len(p) for p in prompts] if prompts else [0] * len(texts)
    return [100 * len(t) + 10 * p + n for t, p, n in zip(texts, asked, notes)]  # noqa: B905 - for any Python


def everything(samples, **facts):
    """How many facts there are."""
    return [float(len(facts))] * len(samples)


def with_parts(images):
    """Scores with parts, flags and reasons."""
    red = images[:, 0].mean((1, 2))
    valid = red > 0.5
    return {
        "scores": red, "parts": {"twice": 2 * red}, "valid": valid,
        "reasons": ["" if ok else "too dark" for ok in valid],
    }  # fmt: skip


def on_pictures(images):
    """Height of pictures."""
    return [float(np.asarray(image).mean()) / 255 for image in images]


def on_torch(images):
    """Means by torch."""
    import torch

    assert isinstance(images, torch.Tensor)
    return images.mean((1, 2, 3))


def raises_on_dark(images):
    """Fail where a batch holds a dark image."""
    red = images[:, 0].mean((1, 2))
    if (red < 0.2).any():
        raise ValueError("a dark image")
    return red


def wrong_count(images):
    """One number too many."""
    return np.zeros(len(images) + 1)


def words(images):
    """No numbers at all."""
    return ["good"] * len(images)


class Crashing:
    """Die without a word, a number of times; the count is kept in a file."""

    def __init__(self, file: str, times: int) -> None:
        self.file, self.times = Path(file), times

    def __call__(self, images):
        done = int(self.file.read_text()) if self.file.exists() else 0
        if done < self.times:
            self.file.write_text(str(done + 1))
            print("about to fall", file=sys.stderr, flush=True)
            os._exit(7)
        return images[:, 0].mean((1, 2))


class Hanging:
    """Take too long for a call, or already for loading."""

    def __init__(self, at_start: float = 0.0, per_call: float = 0.0) -> None:
        time.sleep(at_start)
        self.per_call = per_call

    def __call__(self, images):
        time.sleep(self.per_call)
        return images[:, 0].mean((1, 2))


class Broken:
    """Cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no weights here")
