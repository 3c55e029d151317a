"""Weights from files into modules: nothing missing, nothing left over, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itscale.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHOWN = 5


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.safetensors`` or torch file, mapped into memory rather than copied.

    A checkpoint that holds them under ``state_dict`` is unpacked, and a prefix ``module.`` taken off. Pickled
    objects other than tensors are refused.

    Raises:
        ConfigError: for a file that cannot be read that way.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # torch raises many kinds for broken, foreign and unsafe files
        raise ConfigError(
            f"cannot read weights from {str(path)!r}: {str(error).splitlines()[0]}; expected tensors as "
            "torch.save or safetensors write them. Is the file complete?"
        ) from error
    if isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ConfigError(f"{str(path)!r} holds {type(content).__name__}, not a dictionary of tensors")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def fill(module: nn.Module, state: Mapping[str, Tensor], source: Any) -> nn.Module:
    """Load a complete state into a module.

    Raises:
        ConfigError: for missing or surplus names, or other shapes, showing the first of them.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    surplus = [name for name in state if name not in own]
    shapes = [
        f"{name} {list(state[name].shape)} for {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if missing or surplus or shapes:
        found = (("missing", missing), ("unexpected", surplus), ("of another shape", shapes))
        listed = "; ".join(f"{len(names)} {what}: {_first(names)}" for what, names in found if names)
        raise ConfigError(f"{source} does not fit {type(module).__name__}. {listed}")
    module.load_state_dict(dict(state), strict=True)
    return module


def frozen(module: nn.Module, device: Any = None, dtype: str = "float32") -> nn.Module:
    """The module in evaluation mode, without gradients of its parameters, where and in what it computes."""
    return module.to(device=device, dtype=DTYPES[dtype]).eval().requires_grad_(False)


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _is_zip(path: Path) -> bool:
    """Whether torch can map the file: archives can, files of torch below 1.6 cannot."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"
