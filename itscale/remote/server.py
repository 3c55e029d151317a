"""A reward behind HTTP: ``GET /spec``, ``POST /score``."""

from __future__ import annotations

import hmac
import json
import logging
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from torch import Tensor

from itscale.errors import ConfigError, ItscaleError
from itscale.remote import payload
from itscale.scoring import Reward

LARGEST_REQUEST = 1 << 28
logger = logging.getLogger(__name__)


class RewardServer(ThreadingHTTPServer):
    """Serves one reward; requests are taken in parallel and scored one after another.

    Args:
        reward: what scores.
        host, port: where it listens; port 0 takes a free one.
        device: where samples are put before they are scored.
        token_env: environment variable with a bearer token that requests must bring.

    Raises:
        ConfigError: for an address that cannot be listened on, or an empty variable.
    """

    daemon_threads = True

    def __init__(
        self, reward: Reward, host: str = "127.0.0.1", port: int = 0, *, device: str = "cpu",
        token_env: str | None = None,
    ) -> None:  # fmt: skip
        self.reward, self.device = reward, device
        self.token = None if token_env is None else os.environ.get(token_env, "")
        if self.token == "":
            raise ConfigError(f"the environment variable {token_env!r} is empty; set it to the token")
        self.lock = threading.Lock()
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error}; give another --host or --port"
            ) from error

    @property
    def url(self) -> str:
        """The address for clients."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def answer(self, request: Any) -> dict[str, Any]:
        """Score the samples of a request; see ``answer``."""
        with self.lock:
            return answer(self.reward, self.device, request)


def answer(reward: Reward, device: str, request: Any) -> dict[str, Any]:
    """Score the samples of a request.

    Raises:
        ItscaleError: for a request that cannot be read, or a reward that fails.
    """
    if not isinstance(request, dict):
        raise ConfigError(f"a request is a JSON object, got {type(request).__name__}")
    samples = payload.decode_samples(request, reward.spec.modality)
    if isinstance(samples, Tensor):
        samples = samples.to(device)
    facts = {name: request[name] for name in payload.FACTS if request.get(name) is not None}
    return payload.encode_scores(reward.score(samples, facts))


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds without a byte before a connection is given up

    def do_GET(self) -> None:
        """Say what is served."""
        if not self._is_allowed():
            return
        if self.path.rstrip("/") == "/spec":
            reward = self.server.reward
            document = payload.encode_spec(reward.spec, reward.name)
            self._send(200, {**document, "wanted": list(reward.wanted)})
        else:
            self._send(404, {"error": "there are GET /spec and POST /score"})

    def do_POST(self) -> None:
        """Score what was sent."""
        body = self._body()
        if body is None or not self._is_allowed():
            return
        if self.path.rstrip("/") != "/score":
            self._send(404, {"error": "there are GET /spec and POST /score"})
            return
        try:
            self._send(200, self.server.answer(json.loads(body)))
        except (ConfigError, ValueError) as error:
            self._send(400, {"error": str(error)})
        except ItscaleError as error:
            self._send(500, {"error": str(error)})
        except Exception as error:  # a server outlives what one request does to it
            logger.exception("a request failed")
            self._send(500, {"error": f"{type(error).__name__}: {error}"})

    def _body(self) -> bytes | None:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= LARGEST_REQUEST:
            self.close_connection = True
            self._send(
                413 if length > 0 else 411,
                {"error": f"send at most {LARGEST_REQUEST} bytes, and their length"},
            )
            return None
        return self.rfile.read(length)

    def _is_allowed(self) -> bool:
        token = self.server.token
        if token is None:
            return True
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if hmac.compare_digest(given.encode(), token.encode()):
            return True
        self._send(401, {"error": "the bearer token is missing or wrong"})
        return False

    def _send(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document, allow_nan=False).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client has gone
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are of interest when debugging only."""
        logger.debug("%s %s", self.address_string(), format % args)
