"""Samples on their way to the host, while the device makes the next ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class HomeBound:
    """Brings parts of a population to the host, in order.

    From CUDA a part goes through page-locked memory, and is waited for only when the next one has been asked
    for: pictures are many times slower to move than to wait for, and the device works meanwhile.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._under_way: tuple[Tensor, Any] | None = None

    def add(self, part: Tensor) -> None:
        """Send a part home."""
        if part.device.type != "cuda":
            self._parts.append(part.cpu())
            return
        staged = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
        staged.copy_(part, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(part.device))
        self._land()
        self._under_way = (staged, arrived)

    def all(self) -> Tensor:
        """All parts after one another, in ordinary memory."""
        self._land()
        return torch.cat(self._parts)

    def _land(self) -> None:
        if self._under_way is not None:
            staged, arrived = self._under_way
            arrived.synchronize()
            self._parts.append(staged.clone())  # page-locked memory is for the next part
            self._under_way = None
