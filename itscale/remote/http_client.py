"""Questions to an HTTP server, asked again while it is away."""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import os
import random
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from itscale.errors import ConfigError, RewardError

AGAIN = (429, 502, 503, 504)
"""Answers of a server, or of one before it, that say: later."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
LARGEST_ANSWER = 1 << 26
POLICIES = ("raise", "wait")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how long to go on asking.

    Args:
        url: ``http://host:port`` or ``https://...``, perhaps with a path.
        token_env: environment variable that holds a bearer token; its value is never stored or shown.
        timeout: seconds for one answer.
        total: seconds to go on while the server is away, with growing pauses.
        on_unavailable: ``"raise"`` after that, or ``"wait"`` for ever.
    """

    url: str
    token_env: str | None = None
    timeout: float = 120.0
    total: float = 120.0
    on_unavailable: str = "raise"

    def check(self, name: str) -> Endpoint:
        """Read the settings.

        Raises:
            ConfigError: naming the one that cannot be.
        """
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"reward {name!r}: url={self.url!r}; give http://host:port or https://...")
        if parts.username or parts.password:
            raise ConfigError(f"reward {name!r}: the url holds a password; use token_env=VARIABLE")
        if self.on_unavailable not in POLICIES:
            raise ConfigError(
                f"reward {name!r}: on_unavailable={self.on_unavailable!r}; give 'raise' or 'wait'"
            )
        for limit in ("timeout", "total"):
            if not getattr(self, limit) > 0:
                raise ConfigError(
                    f"reward {name!r}: {limit} is {getattr(self, limit)!r}; give seconds above 0"
                )
        if self.token_env is not None and not os.environ.get(self.token_env):
            raise ConfigError(
                f"reward {name!r}: the environment variable {self.token_env!r} is empty; set it"
            )
        return self

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        return self._ask(path, None)

    def post(self, path: str, document: Any) -> Any:
        """The JSON that answers a JSON document.

        Raises:
            RewardError: if the server is away for too long, refuses, or answers nonsense.
        """
        return self._ask(path, json.dumps(document).encode())

    def _ask(self, path: str, body: bytes | None) -> Any:
        address = self.url.rstrip("/") + path
        started, wait, said = time.monotonic(), FIRST_WAIT, 0
        jitter = random.Random()
        while True:
            try:
                return self._once(address, body)
            except _Away as away:
                spent = time.monotonic() - started
                pause = wait * jitter.uniform(0.5, 1.5)
                if self.on_unavailable == "raise" and spent + pause > self.total:
                    raise RewardError(
                        f"{address} is away for {spent:.0f} s ({away}); start it again and resume, or set "
                        "on_unavailable='wait'"
                    ) from away
                if spent // 60 >= said:
                    logger.warning("%s is away (%s); asking again", address, away)
                    said = spent // 60 + 1
                time.sleep(pause)
                wait = min(2 * wait, LONGEST_WAIT)

    def _once(self, address: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token_env is not None:
            headers["Authorization"] = f"Bearer {os.environ.get(self.token_env, '')}"
        request = urllib.request.Request(address, data=body, headers=headers)
        try:
            with _opener(address).open(request, timeout=self.timeout) as answer:
                data = answer.read(LARGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            if error.code in AGAIN:
                raise _Away(f"status {error.code}") from error
            raise RewardError(f"{address} refuses with status {error.code}: {_reason(error)}") from error
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            reason = getattr(error, "reason", error)
            if isinstance(reason, socket.gaierror) and reason.errno == socket.EAI_NONAME:
                raise RewardError(f"{address} names a host that nobody knows; check the url") from error
            raise _Away(str(reason) or type(error).__name__) from error
        if len(data) > LARGEST_ANSWER:
            raise RewardError(f"{address} answers more than {LARGEST_ANSWER >> 20} MiB")
        try:
            return json.loads(data)
        except ValueError as error:
            raise RewardError(f"{address} answers no JSON: {data[:80]!r}") from error


class _Away(Exception):
    """The server cannot be reached for now."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Tokens and samples go where they were sent, and nowhere else."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        """Refuse, so that the status is an error."""
        return


def _opener(address: str) -> urllib.request.OpenerDirector:
    handlers: list[Any] = [_NoRedirect()]
    if _is_here(urllib.parse.urlsplit(address).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # no proxy knows this machine's own addresses
    return urllib.request.build_opener(*handlers)


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: urllib.error.HTTPError) -> str:
    """What the server says about its refusal."""
    text = error.read(2000).decode(errors="replace")
    try:
        document = json.loads(text)
        found = document.get("error", text) if isinstance(document, dict) else text
        return str(found.get("message", found) if isinstance(found, dict) else found)
    except ValueError:
        return text[:200] or error.reason
