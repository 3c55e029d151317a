"""Pipelines from folders and from the hub."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from itscale.errors import ConfigError, missing_extra, unknown_name

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
WEIGHTS = (".safetensors", ".bin")


def open_pipeline(
    name: str, *, dtype: Any = None, variant: str | None = None, allow_download: bool = False
) -> Any:
    """Load a pipeline from a folder, from the local cache of the hub, or from the hub itself.

    Args:
        name: a folder, or ``owner/model``.
        dtype: of the networks, as a name or a torch dtype; None is that of the files.
        variant: of the weight files, such as ``"fp16"``.
        allow_download: whether the network may be used.

    Raises:
        MissingExtra: without diffusers.
        ConfigError: naming what was looked for and what is there.
    """
    try:
        loader = import_module("diffusers").DiffusionPipeline
    except ImportError as error:
        raise missing_extra("diffusers", "images", f"loading the pipeline {name!r}") from error
    options: dict[str, Any] = {"torch_dtype": read_dtype(dtype)}
    if variant is not None:
        options["variant"] = variant
    folder = Path(name).expanduser()
    if folder.is_dir():
        check_folder(folder)
        return _opened(loader, str(folder), options | {"local_files_only": True})
    if folder.is_absolute() or name.count("/") != 1 or name.startswith((".", "~")):
        raise ConfigError(
            f"{name!r} is no folder; give the folder that holds model_index.json, or a hub id 'owner/model'"
        )
    try:
        return _opened(loader, name, options | {"local_files_only": not allow_download})
    except ConfigError as error:
        if allow_download:
            raise
        raise ConfigError(
            f"{name!r} is no folder here, and no such model lies whole in the local cache of the hub; give "
            "a folder, or "
            "allow_download=True (in a configuration model.allow_download: true) to fetch it"
        ) from error


def read_dtype(dtype: Any) -> torch.dtype | None:
    """A torch dtype by name; None stays None."""
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise unknown_name("dtype", str(dtype), DTYPES)
    return DTYPES[dtype]


def check_folder(folder: Path) -> None:
    """Raise unless a folder holds every part that its index lists, with weights where a part has some.

    Raises:
        ConfigError: naming the parts that lack something and what is there.
    """
    index = folder / "model_index.json"
    held = sorted(p.name for p in folder.iterdir())
    if not index.exists():
        raise ConfigError(
            f"{str(folder)!r} holds no pipeline: expected model_index.json, found "
            f"{', '.join(held[:12]) or 'nothing'}"
        )
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{str(index)!r} is not valid JSON: {error}; fetch it again") from error
    lacking = []
    for part, kind in listed.items():
        if part.startswith("_") or not isinstance(kind, list) or kind[0] is None:
            continue
        if (complaint := _lack(folder / part, kind)) is not None:
            lacking.append(complaint)
    if lacking:
        raise ConfigError(
            f"the pipeline in {str(folder)!r} ({listed.get('_class_name', 'of no class')}) lacks parts: "
            f"{'; '.join(lacking)}. There is: {', '.join(held)}. Fetch the whole folder"
        )


def _lack(part: Path, kind: list[str]) -> str | None:
    """What a part lacks: a folder, a configuration, weights; None if nothing."""
    if not part.is_dir():
        return f"{part.name}/ ({kind[1]})"
    names = [p.name for p in part.iterdir()]
    if not any(n.endswith((".json", ".model", ".txt")) for n in names):
        return f"{part.name}/ has no configuration, only {', '.join(sorted(names)) or 'nothing'}"
    is_network = (part / "config.json").exists()
    if is_network and not any(n.endswith(WEIGHTS) for n in names):
        return f"{part.name}/ has no weights (*.safetensors), only {', '.join(sorted(names))}"
    return None


def _opened(loader: Any, name: str, options: dict[str, Any]) -> Any:
    try:
        return loader.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"diffusers cannot load {name!r}: {first}") from error
