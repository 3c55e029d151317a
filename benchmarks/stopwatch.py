"""Processor time of a solver's steps without the network, and the operations in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass
class Clock:
    """Processor seconds of steps, without those of the looks inside them."""

    steps: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    _inside: float = 0.0

    def look(self, call: Callable[[], Any]) -> Any:
        started = time.thread_time()
        try:
            return call()
        finally:
            self.looks.append(time.thread_time() - started)
            self._inside += self.looks[-1]

    @contextmanager
    def step(self) -> Iterator[None]:
        self._inside = 0.0
        started = time.thread_time()
        yield
        self.steps.append(time.thread_time() - started - self._inside)


class Counter(TorchDispatchMode):
    """Count passes over states, operations on numbers, and reads of numbers; views are free."""

    def __init__(self, size: int) -> None:
        """``size``: numbers in the states."""
        super().__init__()
        self.size = size
        self.passes = self.small = self.reads = 0
        self.is_off = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.is_off or func.is_view:
            return out
        if func.overloadpacket is torch.ops.aten._local_scalar_dense:
            self.reads += 1
        elif isinstance(out, Tensor) and out.numel() >= self.size:
            self.passes += 1
        else:
            self.small += 1
        return out

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.passes, self.small, self.reads
