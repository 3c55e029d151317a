"""Rows in files that hold tensors and names, and no code."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.pools.base import Held


def write_rows(path: Path, store: Mapping[tuple[int, int], Held], counters: Mapping[str, int]) -> None:
    """Write populations by name; the file is replaced in one go."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    layout = []
    numbers: dict[int, int] = {}
    for name, rows in store.items():
        number = numbers.setdefault(id(rows), len(numbers))  # one population may have two names
        fields = {f.name: getattr(rows, f.name) for f in dataclasses.fields(rows)}  # type: ignore[arg-type]
        kind = f"{type(rows).__module__}:{type(rows).__qualname__}"
        lengths = {n: len(v) if isinstance(v, tuple) else None for n, v in fields.items() if v is not None}
        layout.append({"name": list(name), "kind": kind, "number": number, "fields": lengths})
        for field, value in fields.items():
            for i, tensor in enumerate(value if isinstance(value, tuple) else (value,)):
                if tensor is not None:
                    tensors[f"{number}.{field}.{i}"] = tensor.detach().cpu().clone().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    about = {"layout": json.dumps(layout), "counters": json.dumps(dict(counters))}
    save_file(tensors, partial, metadata=about)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_rows(path: Path, device: torch.device | str) -> tuple[dict[tuple[int, int], Any], dict[str, int]]:
    """Undo ``write_rows``: populations by name on a device, and the counters."""
    from safetensors import safe_open

    store: dict[tuple[int, int], Any] = {}
    made: dict[int, Any] = {}
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        for entry in json.loads(about["layout"]):
            number = entry["number"]
            if number not in made:
                fields = {
                    field: file.get_tensor(f"{number}.{field}.0")
                    if length is None
                    else tuple(file.get_tensor(f"{number}.{field}.{i}") for i in range(length))
                    for field, length in entry["fields"].items()
                }
                made[number] = _kind(entry["kind"])(**fields).to(device)
            store[tuple(entry["name"])] = made[number]
    return store, json.loads(about["counters"])


def _kind(name: str) -> type[Held]:
    module, _, qualified = name.partition(":")
    found = getattr(importlib.import_module(module), qualified, None)
    if not (isinstance(found, type) and issubclass(found, Held)):
        raise ConfigError(f"the snapshot names {name}, which is no kind of rows")
    return found
