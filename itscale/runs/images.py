"""Pictures of a run's answers, with their numbers written into the files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itscale.result import Result
from itscale.runs.cells import Cell
from itscale.runs.measure import Measured
from itscale.runs.molecules import drawing
from itscale.scoring.facts import text_of

FRAME_RATE = 16


def save_answers(folder: Path, cell: Cell, result: Result, measured: Measured) -> dict[int, str]:
    """Write the answer of every group as PNG; return paths in the run's folder by position of the group.

    Images and videos as they are, molecules as drawings; nothing for samples of another kind.
    """
    channels = result.samples.shape[-3] if result.samples.ndim > 4 else 0
    is_image = result.modality in ("image", "video") and channels in (1, 3)
    if not is_image and not (result.modality == "molecule" and result.texts is not None):
        return {}
    from PIL.PngImagePlugin import PngInfo

    files = {}
    for g, group in enumerate(cell.groups):
        slot = int(measured.answer[g])
        info = PngInfo()
        for key, value in _facts(cell, result, g, slot).items():
            info.add_text(f"itscale:{key}", str(value))
        given = cell.conditions[g]
        condition = "" if given is None else f"{_slug(text_of(given) or given)}_"
        name = f"images/{condition}seed{cell.run.seed}-{group}_{_slug(cell.label)}_{cell.key[:6]}.png"
        if is_image:
            save_picture(result.samples[g, slot], folder / name, info)
        else:
            drawing((result.texts or [])[g][slot]).save(folder / name, pnginfo=info)
        files[g] = name
    return files


def save_picture(sample: Tensor, path: Path, info: Any) -> None:
    """Write a picture, or the frames of a video (frames, c, h, w) as an animated PNG."""
    if sample.ndim == 3:
        as_picture(sample).save(path, pnginfo=info)
        return
    first, *rest = (as_picture(frame) for frame in sample)
    first.save(path, pnginfo=info, save_all=True, append_images=rest, duration=1000 // FRAME_RATE, loop=0)


def as_picture(sample: Tensor) -> Any:
    """Return a sample (c, h, w) in [0, 1] as a PIL image of its own size."""
    from PIL import Image

    pixels = (sample.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _facts(cell: Cell, result: Result, g: int, slot: int) -> dict[str, Any]:
    return {
        "reward": float(result.rewards[g, slot]),
        "held_out": None if result.held_out is None else float(result.held_out[g, slot]),
        "method": cell.method_label,
        "cell": cell.key,
        "condition": cell.conditions[g],
        "seed": cell.run.seed,
        "group": cell.groups[g],
        "slot": slot,
        "nfe": result.spent.nfe[g],
    }


def _slug(value: Any) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-")[:48]
