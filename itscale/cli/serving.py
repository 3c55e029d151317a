"""``itscale serve-reward``."""

from __future__ import annotations

from typing import Annotated

import typer

from itscale.cli.output import note, print_json, print_line, stdout_kept_clean

_NAME = typer.Argument(metavar="NAME", help="A name, an expression, module:attribute or ./file.py:name.")
_HOST = typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one of this machine.")
_PORT = typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
_DEVICE = typer.Option("--device", help="Where samples are put before they are scored, such as cuda:1.")
_TOKEN = typer.Option("--token-env", help="Environment variable with a bearer token that clients must send.")
_JSON = typer.Option("--json", help="Print one JSON document with the address to stdout.")


def serve_reward(
    name: Annotated[str, _NAME],
    host: Annotated[str, _HOST] = "127.0.0.1",
    port: Annotated[int, _PORT] = 0,
    device: Annotated[str, _DEVICE] = "cpu",
    token_env: Annotated[str | None, _TOKEN] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Serve a reward over HTTP until interrupted; runs elsewhere use its address as their reward."""
    from itscale.remote.server import RewardServer
    from itscale.scoring import as_reward

    with stdout_kept_clean():
        server = RewardServer(as_reward(name), host, port, device=device, token_env=token_env)
    if as_json:
        print_json({"url": server.url, "reward": server.reward.name})
    else:
        print_line(f"{server.reward.name} is served at {server.url}")
    if host not in ("127.0.0.1", "localhost", "::1") and token_env is None:
        note("whoever reaches this machine can ask this server; --token-env VARIABLE limits that")
    with server, stdout_kept_clean():
        server.serve_forever()
