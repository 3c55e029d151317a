"""Servers for tests: one that serves a reward, and one that misbehaves on demand. Loopback only."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from itscale.remote.server import RewardServer
from itscale.scoring import as_reward

SPEC = {"name": "fake", "modality": "image", "needs_rgb": True, "range": [0, 1], "wanted": ["prompts"]}


@contextlib.contextmanager
def served(reward: Any, **options: Any) -> Iterator[RewardServer]:
    """A reward behind a server, for the length of a block."""
    with running(RewardServer(as_reward(reward), **options)) as server:
        yield server


@contextlib.contextmanager
def running(server: Any) -> Iterator[Any]:
    """A server in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Fake(ThreadingHTTPServer):
    """Answers each POST with the next of a list, the last one for ever.

    Args:
        answers: ``(status, document)``, a document may be bytes; ``"drop"`` closes the connection; a
            function of the request gives one of these.
        spec: what GET answers.
    """

    daemon_threads = True

    def __init__(self, *answers: Any, spec: Any = None, port: int = 0) -> None:
        self.answers = list(answers)
        self.spec = SPEC if spec is None else spec
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up are part of the tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        self._send(200, self.server.spec)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.headers.append(dict(self.headers))
        answers = self.server.answers
        answer: Any = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Callable):
            answer = answer(body)
        if answer == "drop":
            self.close_connection = True
            self.connection.close()
            return
        self._send(*answer)

    def _send(self, status: int, document: Any) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", data.decode())
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass
