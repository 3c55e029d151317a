"""How messages cross from one process to another: tensors as arrays, models once, rows by name."""

from __future__ import annotations

import copyreg
import io
import pickle
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ray import cloudpickle
from torch import Tensor

Naming = Callable[[Any], Any]
"""Object -> the name under which the other side has it, or None."""
Names = Mapping[type, Callable[[Any], Any]]
"""By type: object -> the name under which the other side has it."""

_reading = threading.local()  # what finds names in the message that a thread reads


class _Writer(cloudpickle.CloudPickler):  # pyright: ignore[reportPrivateImportUsage]
    def __init__(self, file: io.BytesIO, naming: Naming | None, keep: Callable[..., Any] | None) -> None:
        super().__init__(file, protocol=5, buffer_callback=keep)
        self._naming = naming
        self._is_whole = keep is None

    def persistent_id(self, obj: Any) -> Any:
        return None if self._naming is None else self._naming(obj)

    def reducer_override(self, obj: Any) -> Any:
        # Ray pickles bare tensors byte by byte; arrays go into shared memory as they are
        if type(obj) is Tensor and _is_numbers(obj):
            if self._is_whole:
                return _in_bytes(obj)
            return as_tensor, as_array(obj)
        return super().reducer_override(obj)


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, find: Callable[[Any], Any] | None, buffers: Any = None) -> None:
        super().__init__(file, buffers=buffers)
        self._find = find

    def persistent_load(self, pid: Any) -> Any:
        assert self._find is not None, "nothing has a name here"
        return self._find(pid)


def _is_numbers(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.is_leaf and not tensor.requires_grad


def _in_bytes(tensor: Tensor) -> tuple[Any, ...]:
    """How a few numbers are written: an array would take three times as long."""
    if not _is_numbers(tensor):
        return tensor.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    array, dtype = as_array(tensor)
    return from_bytes, (array.tobytes(), dtype, tuple(tensor.shape))


def dumps(value: Any, names: Names | None = None) -> bytes:
    """Write a message; what has a name goes by name.

    Of classes and functions that can be imported, in half of the time that others take.
    """
    names = names or {}
    quick = None if cloudpickle.list_registry_pickle_by_value() else _quick(value, names)
    if quick is not None and b"__main__" not in quick:  # the other side has another main program
        return quick
    return dumps_any(value, lambda obj: names[type(obj)](obj) if type(obj) in names else None)


def _quick(value: Any, names: Names) -> bytes | None:
    """A message of what can be imported; None where something cannot, such as a function of a function."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    named = {kind: _by(name) for kind, name in names.items()}
    pickler.dispatch_table = {**copyreg.dispatch_table, Tensor: _in_bytes, **named}
    try:
        pickler.dump(value)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return file.getvalue()


def _by(name: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda obj: (_found, (name(obj),))


def _found(name: Any) -> Any:
    assert _reading.find is not None, "nothing has a name here"
    return _reading.find(name)


def dumps_any(value: Any, naming: Naming | None = None) -> bytes:
    """Write anything, functions of a notebook included; what ``naming`` knows goes by name."""
    file = io.BytesIO()
    _Writer(file, naming, None).dump(value)
    return file.getvalue()


def loads(data: bytes, find: Callable[[Any], Any] | None = None) -> Any:
    """Read a message."""
    outer = getattr(_reading, "find", None)
    _reading.find = find
    try:
        return _Reader(io.BytesIO(data), find).load()
    finally:
        _reading.find = outer


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
