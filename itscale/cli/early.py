"""Signals by which schedulers announce the end of a job: what is finished is kept, the code says go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

TO_BE_CONTINUED = 75
"""Exit code of a command that was told to end and can go on, as ``EX_TEMPFAIL`` of sysexits."""


@contextmanager
def ending_early() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 end a run as Ctrl-C does, and exit with ``TO_BE_CONTINUED``."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGUSR1"):
        yield  # only the main thread may say so, and only POSIX has it
        return
    told: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if len(told) == 1:  # a second one must not cut what the first has begun to write
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    except (typer.Exit, KeyboardInterrupt) as error:
        if told:
            raise typer.Exit(TO_BE_CONTINUED) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
