"""One child process in another environment: started, asked, watched, started again after a crash."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from itscale.errors import ConfigError, RewardError
from itscale.remote import child

CHILD = Path(child.__file__)
FORMS = ("numpy", "torch", "pil")
REMEMBERED_LINES = 30
logger = logging.getLogger(__name__)


class ChildFailure(Exception):
    """The reward raised in the other environment; the process goes on."""


@dataclass(frozen=True)
class Isolated:
    """A reward in another environment.

    Args:
        python: its interpreter.
        target: ``module:attribute`` there, or ``file.py:attribute``.
        arguments: JSON of the arguments of a class or function.
        form: how images reach it: ``"numpy"`` float32 ``[m, c, h, w]`` in [0, 1], ``"torch"`` the same as a
            tensor, ``"pil"`` a list of pictures.
        start_timeout: seconds to import and load; large libraries take minutes on a busy machine.
        call_timeout: seconds for a call, beside ``sample_timeout`` for each sample.
        sample_timeout: seconds for each sample of a call.
    """

    python: str
    target: str
    arguments: str = "{}"
    form: str = "numpy"
    start_timeout: float = 300.0
    call_timeout: float = 60.0
    sample_timeout: float = 2.0

    def check(self) -> Isolated:
        """Look for the interpreter and read the target.

        Raises:
            ConfigError: if either cannot be.
        """
        if shutil.which(self.python) is None:
            raise ConfigError(
                f"reward 'isolated': python={self.python!r} is no program; give the path of an interpreter, "
                "such as /path/to/venv/bin/python"
            )
        where, colon, attribute = self.target.rpartition(":")
        if not colon or not where or not attribute:
            raise ConfigError(
                f"reward 'isolated': target={self.target!r}; give module:attribute or path/file.py:attribute"
            )
        if where.endswith(".py") and not Path(where).is_file():
            raise ConfigError(f"reward 'isolated': target={self.target!r}, and there is no file {where!r}")
        return self

    def load(self, device: torch.device) -> Child:
        """Start the child and wait until it is ready."""
        started = Child(self)
        started.start()
        return started


class Child:
    """A running child, asked one question at a time.

    Args:
        source: what it runs.

    Attributes:
        versions: of the libraries in the other environment, once it is ready.
        wanted: the facts that the reward asks for.
    """

    def __init__(self, source: Isolated) -> None:
        self.source = source
        self.versions: dict[str, str] = {}
        self.wanted: list[str] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._last_words: deque[str] = deque(maxlen=REMEMBERED_LINES)
        atexit.register(self.close)

    def start(self) -> None:
        """Start the process and load the reward in it.

        Raises:
            RewardError: if it cannot be loaded or is not ready in time, with what it printed last.
        """
        s = self.source
        self._last_words.clear()
        self._process = subprocess.Popen(
            [s.python, str(CHILD)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()
        where, _, attribute = s.target.rpartition(":")
        target = f"{os.path.abspath(where)}:{attribute}" if where.endswith(".py") else s.target
        request = {"target": target, "arguments": json.loads(s.arguments), "form": s.form}
        try:
            answer = self._exchange(request, s.start_timeout, "start_timeout")
        except _Died as error:
            self.close()
            raise RewardError(f"{self._who} could not start: {error}{self._tail}") from error
        if not answer["ok"]:
            self.close()
            raise RewardError(f"{self._who} could not be loaded: {answer['error']}")
        self.versions, self.wanted = answer["versions"], answer["wanted"]
        logger.info("%s is ready: %s", self._who, self.versions)

    def score(self, samples: Any, facts: Mapping[str, Any], count: int) -> dict[str, Any]:
        """Ask for the scores of ``count`` samples: an answer with ``scores`` and what else the reward gave.

        After a crash the child is started again and asked once more.

        Raises:
            ChildFailure: if the reward raised.
            RewardError: if the child crashed twice, or did not answer in time.
        """
        asked = {name: facts[name] for name in self.wanted if name in facts}
        request = {"samples": samples, "facts": asked, "count": count}
        allowed = self.source.call_timeout + count * self.source.sample_timeout
        with self._lock:
            try:
                answer = self._ask(request, allowed)
            except _Died as first:
                logger.warning("%s died (%s) and is started again", self._who, first)
                self.close()
                self.start()
                try:
                    answer = self._ask(request, allowed)
                except _Died as error:
                    raise RewardError(f"{self._who} died twice: {error}{self._tail}") from error
        if not answer["ok"]:
            raise ChildFailure(f"{answer['error']} (in {self.source.python})")
        return answer

    def close(self) -> None:
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:
            return  # a fork of this process holds a copy of this object, and not the child
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was left to write to a dead child
                    stream.close()

    def _ask(self, request: dict[str, Any], allowed: float) -> dict[str, Any]:
        if os.getpid() != self._owner:
            self._process, self._owner = None, os.getpid()
        if self._process is None:
            self.start()
        return self._exchange(request, allowed, "call_timeout")

    def _exchange(self, request: dict[str, Any], allowed: float, setting: str) -> dict[str, Any]:
        """Write a request and read the answer, both within the time; a child that is late is ended."""
        process = self._process
        assert process is not None
        outcome: queue.Queue[Any] = queue.Queue()

        def work() -> None:
            try:
                child.send(cast(BinaryIO, process.stdin), request)
                outcome.put(child.receive(cast(BinaryIO, process.stdout)))
            except BaseException as error:
                outcome.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            result = outcome.get(timeout=allowed)
        except queue.Empty:
            self.close()
            raise RewardError(
                f"{self._who} did not answer within {allowed:g} s and was ended; raise {setting}"
            ) from None
        if isinstance(result, (EOFError, OSError)):
            raise _Died(self._how_it_ended(process)) from result
        if isinstance(result, (TypeError, ValueError)):
            self.close()  # half a message may have been written
            raise RewardError(f"{self._who} and this process cannot talk: {result}") from result
        if isinstance(result, BaseException):
            raise result
        return result

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Keep the last lines that the child prints."""
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                self._last_words.append(line.decode(errors="replace").rstrip())

    def _how_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        if self._listener is not None:
            self._listener.join(timeout=5)  # until its last words are read
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    @property
    def _who(self) -> str:
        return f"the isolated reward {self.source.target!r} in {self.source.python}"

    @property
    def _tail(self) -> str:
        words = [line for line in self._last_words if line]
        return f". Its last words: {' | '.join(words[-5:])}" if words else ""


class _Died(Exception):
    """The child ended, or closed its output, before it answered."""
