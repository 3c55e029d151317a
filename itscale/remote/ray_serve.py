"""A reward behind Ray Serve: ``GET /spec`` and ``POST /score`` as by ``itscale serve-reward``, replicated."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from typing import Any

from itscale.errors import ConfigError, ItscaleError
from itscale.remote import payload
from itscale.remote.server import LARGEST_REQUEST, answer
from itscale.scoring import as_reward


class RewardDeployment:
    """One replica with one copy of a reward.

    Args:
        reward: a name or an expression.
        device: where samples are put before they are scored.
        token_env: environment variable with a bearer token that requests must bring.

    Raises:
        ConfigError: for an unknown reward, or an empty variable.
    """

    def __init__(self, reward: str, device: str = "cpu", token_env: str | None = None) -> None:
        self.reward, self.device = as_reward(reward), device
        self.token = None if token_env is None else os.environ.get(token_env, "")
        if self.token == "":
            raise ConfigError(f"the environment variable {token_env!r} is empty; set it to the token")
        self.turn = asyncio.Lock()

    async def __call__(self, request: Any) -> Any:
        """Answer one request of Starlette."""
        from starlette.responses import JSONResponse  # pyright: ignore[reportMissingImports]

        status, document = await self.respond(
            request.method, request.url.path, dict(request.headers), await request.body()
        )
        return JSONResponse(document, status)

    async def respond(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        """Return status and document; scoring leaves the event loop free, and one batch runs at a time."""
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if self.token is not None and not hmac.compare_digest(given.encode(), self.token.encode()):
            return 401, {"error": "the bearer token is missing or wrong"}
        if method == "GET" and path.rstrip("/") == "/spec":
            spec = payload.encode_spec(self.reward.spec, self.reward.name)
            return 200, {**spec, "wanted": list(self.reward.wanted)}
        if method != "POST" or path.rstrip("/") != "/score":
            return 404, {"error": "there are GET /spec and POST /score"}
        if len(body) > LARGEST_REQUEST:
            return 413, {"error": f"send at most {LARGEST_REQUEST} bytes"}
        try:
            async with self.turn:
                return 200, await asyncio.to_thread(answer, self.reward, self.device, json.loads(body))
        except (ConfigError, ValueError) as error:
            return 400, {"error": str(error)}
        except ItscaleError as error:
            return 500, {"error": str(error)}


def app(args: dict[str, Any]) -> Any:
    """Return the application that a Serve configuration names: ``import_path: itscale.remote.ray_serve:app``.

    Args:
        args: of ``RewardDeployment``.
    """
    from ray import serve

    deployment: Any = serve.deployment(RewardDeployment)
    return deployment.bind(**args)
