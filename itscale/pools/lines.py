"""Direct connections of the driver to its shards: message and answer in a tenth of a Ray call's time."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge, wait
from multiprocessing.context import AuthenticationError
from typing import TypeAlias

CONNECT_SECONDS = 5.0
STUCK_SECONDS = 30.0
"""After which a message that is half way through is given up; the wait for an answer has its own limit."""
LOOK_SECONDS = 1.0
FAILED = OSError, EOFError, AuthenticationError
Address: TypeAlias = tuple[str, int]


class Cut(Exception):
    """A line that ended, with the process at its other end or by itself.

    Attributes:
        shard: at its other end.
    """

    def __init__(self, shard: int) -> None:
        super().__init__(f"the line to shard {shard} was cut")
        self.shard = shard


class Answering:
    """A shard's end: every line is read by a thread of its own, one message after the other.

    Nothing is read from one who has no key.

    Attributes:
        address: where lines are accepted; None if the machine lets nobody listen.
    """

    def __init__(self, host: str, key: bytes, obey: Callable[[bytes], bytes]) -> None:
        self._key = key
        self._obey = obey
        self.address: Address | None = None
        try:
            listener = Listener((host, 0))
        except OSError:
            return
        self.address = host, int(listener.address[1])
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                line = listener.accept()
            except OSError:  # one who went away, or no files left to open
                time.sleep(0.1)
                continue
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: Connection) -> None:
        with line:
            try:
                _prepare(line, CONNECT_SECONDS)
                deliver_challenge(line, self._key)
                answer_challenge(line, self._key)
                _prepare(line, 0.0)  # the next message may be long in coming
                while True:
                    line.send_bytes(self._obey(line.recv_bytes()))
            except FAILED:  # no key; or the driver is gone, or has a new line
                return


class Lines:
    """The driver's end."""

    def __init__(self, lines: Sequence[Connection]) -> None:
        self._lines = lines

    @classmethod
    def connect(cls, addresses: Sequence[Address | None], key: bytes) -> Lines:
        """Connect to all shards.

        Raises:
            OSError: if one cannot be reached; TimeoutError if nothing says why.
        """
        lines: list[Connection] = []
        try:
            for address in addresses:
                lines.append(_connected(address, key))
        except OSError:
            cls(lines).close()
            raise
        return cls(lines)

    def ask(
        self, messages: Mapping[int, bytes], deadline: float, look: Callable[[Collection[int]], None]
    ) -> list[bytes]:
        """Send every shard its message, and return the answers in the same order.

        Args:
            deadline: seconds for all of them.
            look: called once a second or so with the shards that have not answered; may raise.

        Raises:
            Cut: if a line ends, or a message stays half way.
            TimeoutError: if the time is over.
        """
        end = time.monotonic() + deadline
        for shard, message in messages.items():
            try:
                self._lines[shard].send_bytes(message)
            except OSError as error:
                raise Cut(shard) from error
        answers: dict[int, bytes] = {}
        waiting = {self._lines[shard]: shard for shard in messages}
        while waiting:
            ready = wait(list(waiting), max(0.0, min(LOOK_SECONDS, end - time.monotonic())))
            for line in ready:
                shard = waiting.pop(line)  # pyright: ignore[reportArgumentType]
                try:
                    answers[shard] = self._lines[shard].recv_bytes()
                except (OSError, EOFError) as error:
                    raise Cut(shard) from error
            if not ready:
                if time.monotonic() >= end:
                    raise TimeoutError
                look(waiting.values())
        return [answers[shard] for shard in messages]

    def close(self) -> None:
        """Hang up; what is on its way is lost."""
        for line in self._lines:
            line.close()


def _connected(address: Address | None, key: bytes) -> Connection:
    if address is None:
        raise OSError("a shard's machine lets nobody listen")
    raw = socket.create_connection(address, timeout=CONNECT_SECONDS)
    raw.settimeout(None)
    line = Connection(raw.detach())
    try:
        _prepare(line, CONNECT_SECONDS)
        answer_challenge(line, key)
        deliver_challenge(line, key)
        _prepare(line, STUCK_SECONDS)
    except FAILED as error:
        line.close()
        raise OSError(f"{type(error).__name__}: {error}") from error
    return line


def _prepare(line: Connection, seconds: float) -> None:
    """Send at once, and set a limit: a long message goes in two parts, the second of which would wait.

    Args:
        seconds: after which a read or a write that gets nowhere fails; 0 is never.
    """
    limit = struct.pack("ll", int(seconds), 0)
    with socket.socket(fileno=os.dup(line.fileno())) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
