"""Samples, facts and scores as JSON, for rewards behind a server."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itscale.errors import ConfigError, RewardError, RewardShapeError
from itscale.scoring import Scores, as_image_batch
from itscale.scoring.spec import RewardSpec
from itscale.vision.preprocessing import as_pillow

ENCODINGS = ("png", "npy")
KEYS = {"image": "images", "molecule": "smiles", "sequence": "texts", "text": "texts"}
FACTS = ("prompts", "conditions", "meta", "step", "t", "is_final")


def key_of(modality: str) -> str:
    """The field of a request that holds the samples of a modality."""
    return KEYS.get(modality, "samples")


def encode_samples(samples: Any, modality: str, encoding: str) -> dict[str, Any]:
    """The part of a request that holds the samples.

    Args:
        samples: tensor, or list of texts.
        modality: of the reward.
        encoding: of images: ``"png"`` rounds to 8 bits, ``"npy"`` keeps float32; other tensors are npy.
    """
    if not isinstance(samples, Tensor):
        return {key_of(modality): [str(sample) for sample in samples]}
    if modality == "image" and encoding == "png":
        images = samples.expand(-1, 3, -1, -1) if samples.shape[1] == 1 else samples
        return {"images": [to_png(picture) for picture in as_pillow(images)], "encoding": "png"}
    array = samples.detach().to("cpu", torch.float32).numpy()
    return {key_of(modality): [to_npy(sample) for sample in array], "encoding": "npy"}


def decode_samples(request: Mapping[str, Any], modality: str) -> Any:
    """The samples of a request, as a reward takes them.

    Raises:
        ConfigError: for a request without them, or with what cannot be read.
    """
    key = key_of(modality)
    entries = request.get(key)
    if not isinstance(entries, list) or not entries or not all(isinstance(e, str) for e in entries):
        raise ConfigError(f"a request needs {key!r}, a list of at least one text; got {str(entries)[:60]}")
    if key in ("smiles", "texts"):
        return entries
    if modality == "image" and request.get("encoding", "png") == "png":
        return as_image_batch([from_png(entry) for entry in entries])
    arrays = [from_npy(entry) for entry in entries]
    if len({array.shape for array in arrays}) > 1:
        raise ConfigError(f"the samples of one request differ in shape: {sorted({a.shape for a in arrays})}")
    return torch.from_numpy(np.stack(arrays))


def encode_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as JSON takes them; what it cannot take is left out for the server to miss."""
    return {name: plain(value) for name, value in facts.items() if name in FACTS}


def plain(value: Any) -> Any:
    """Numbers and lists for tensors and arrays, within lists and mappings too."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ConfigError(f"a reward behind a server cannot be told a {type(value).__name__}: {str(value)[:60]}")


def encode_scores(scores: Scores) -> dict[str, Any]:
    """Scores as JSON, which has no infinities: those are words, and ``null`` where there is no score."""
    values = [
        (v if np.isfinite(v) else "-inf") if ok else None
        for v, ok in zip(scores.values.tolist(), scores.valid.tolist(), strict=True)
    ]
    parts = {n: [v if np.isfinite(v) else None for v in p.tolist()] for n, p in scores.parts.items()}
    return {"scores": values, "valid": scores.valid.tolist(), "parts": parts, "reasons": scores.reasons}


def decode_scores(answer: Any, count: int, who: str) -> Scores:
    """The scores in an answer.

    Raises:
        RewardShapeError: for another number of them than samples.
        RewardError: for an answer without scores, or with what is no number.
    """
    if not isinstance(answer, Mapping) or "scores" not in answer:
        raise RewardError(f"{who} answered without 'scores': {str(answer)[:100]}")
    values = numbers(answer["scores"], who, "scores")
    parts = {str(n): numbers(p, who, str(n)) for n, p in (answer.get("parts") or {}).items()}
    valid, reasons = answer.get("valid"), answer.get("reasons")
    for name, entry in {"scores": values, "valid": valid, "reasons": reasons, **parts}.items():
        if entry is not None and (not hasattr(entry, "__len__") or len(entry) != count):
            found = len(entry) if hasattr(entry, "__len__") else repr(entry)
            raise RewardShapeError(f"{who} answered {found} {name} for {count} samples; expected {count}")
    flags = None if valid is None else torch.as_tensor([bool(flag) for flag in valid])
    texts = None if reasons is None else [str(reason or "") for reason in reasons]
    return Scores.of(values, valid=flags, parts=parts, reasons=texts)


def numbers(values: Any, who: str, name: str) -> Tensor:
    """Float32 numbers of an array or a list; None stands for no number, ``"-inf"`` for itself."""
    try:
        if isinstance(values, Sequence) and not isinstance(values, str):
            values = [float("nan") if value is None else float(value) for value in values]
        return torch.tensor(values, dtype=torch.float32).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RewardError(f"{who} answered {name} that are no numbers: {str(values)[:80]}") from error


def encode_spec(spec: RewardSpec, name: str) -> dict[str, Any]:
    """The facts of a reward that a client needs."""
    return {
        "name": name,
        "modality": spec.modality,
        "deterministic": spec.deterministic,
        "needs_prompt": spec.needs_prompt,
        "needs_rgb": spec.needs_rgb,
        "range": spec.range,
        "typical": spec.typical,
        "scale_hint": spec.scale_hint,
        "batch_size": spec.batch_size,
        "example_shape": spec.example_shape,
        "licence": spec.licence,
        "version": spec.version,
        "doc": spec.doc,
    }


def to_png(picture: Any) -> str:
    """A picture as base64 of a PNG, which loses nothing of its 8 bits."""
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()


def from_png(text: str) -> Any:
    """The picture in a base64 text."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"])
        return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise ConfigError(f"an image of the request is no PNG in base64: {error}") from error


def to_npy(array: np.ndarray) -> str:
    """An array as base64 of numpy's own format."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()


def from_npy(text: str) -> np.ndarray:
    """The float32 array in a base64 text; pickled objects are refused."""
    try:
        array = np.load(io.BytesIO(base64.b64decode(text, validate=True)), allow_pickle=False)
        return np.ascontiguousarray(array, dtype=np.float32)
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise ConfigError(f"a sample of the request is no array in npy format and base64: {error}") from error
