"""How messages cross from one process to another: tensors as arrays, models once, rows by name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ray import cloudpickle
from torch import Tensor

Naming = Callable[[Any], Any]
"""Object -> the name under which the other side has it, or None."""


class _Writer(cloudpickle.CloudPickler):  # pyright: ignore[reportPrivateImportUsage]
    def __init__(self, file: io.BytesIO, naming: Naming | None, keep: Callable[..., Any] | None) -> None:
        super().__init__(file, protocol=5, buffer_callback=keep)
        self._naming = naming
        self._is_whole = keep is None

    def persistent_id(self, obj: Any) -> Any:
        return None if self._naming is None else self._naming(obj)

    def reducer_override(self, obj: Any) -> Any:
        # Ray pickles bare tensors byte by byte; arrays go into shared memory as they are
        if type(obj) is Tensor and obj.layout is torch.strided and obj.is_leaf and not obj.requires_grad:
            array, dtype = as_array(obj)
            if self._is_whole:  # a few numbers: an array would take three times as long
                return from_bytes, (array.tobytes(), dtype, tuple(obj.shape))
            return as_tensor, (array, dtype)
        return super().reducer_override(obj)


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, find: Callable[[Any], Any] | None, buffers: Any = None) -> None:
        super().__init__(file, buffers=buffers)
        self._find = find

    def persistent_load(self, pid: Any) -> Any:
        assert self._find is not None, "nothing has a name here"
        return self._find(pid)


def dumps(value: Any, naming: Naming | None = None) -> bytes:
    """Write a message; what ``naming`` knows goes by name."""
    file = io.BytesIO()
    _Writer(file, naming, None).dump(value)
    return file.getvalue()


def loads(data: bytes, find: Callable[[Any], Any] | None = None) -> Any:
    """Read a message."""
    return _Reader(io.BytesIO(data), find).load()


def dumps_apart(value: Any) -> list[Any]:
    """Write a message whose arrays stay apart from it, so that they can be read where they lie."""
    file, buffers = io.BytesIO(), []
    _Writer(file, None, buffers.append).dump(value)
    return [file.getvalue(), *(np.frombuffer(b.raw(), dtype=np.uint8) for b in buffers)]


def loads_apart(parts: list[Any]) -> Any:
    """Read what ``dumps_apart`` wrote; tensors are copies, for shared memory cannot be written to."""
    return _Reader(io.BytesIO(parts[0]), None, parts[1:]).load()


def size_of(parts: list[Any]) -> int:
    """Bytes of a message of ``dumps_apart``."""
    return len(parts[0]) + sum(part.nbytes for part in parts[1:])


def as_array(tensor: Tensor) -> tuple[np.ndarray, str]:
    """Return a tensor's numbers, as whole ones where numpy has no such type, and the name of its type."""
    tensor = tensor.detach().cpu().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    try:
        return tensor.numpy(), name
    except TypeError:  # bfloat16 and the like
        whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[tensor.element_size()]
        return tensor.view(whole).numpy(), name


def from_bytes(data: bytes, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor that was written as bytes."""
    wanted = getattr(torch, dtype)
    if not data:
        return torch.empty(shape, dtype=wanted)
    return torch.frombuffer(bytearray(data), dtype=wanted).reshape(shape)


def as_tensor(array: np.ndarray, dtype: str) -> Tensor:
    """Undo ``as_array``."""
    found = torch.from_numpy(array if array.flags.writeable else array.copy())
    wanted = getattr(torch, dtype)
    return found if found.dtype == wanted else found.view(wanted)
