"""Files of ``ray up``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from itscale.clusters import rules, schemas
from itscale.clusters.check import Problem, fits
from itscale.errors import did_you_mean

START = ("head_start_ray_commands", "worker_start_ray_commands")
TOKEN_FILE = "auth_token"


def problems(document: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong with a launcher's file."""
    given = document.get("provider")
    provider = given.get("type") if isinstance(given, dict) else None
    if provider not in schemas.PROVIDERS:
        close = did_you_mean(str(provider), schemas.PROVIDERS)
        known = ", ".join(schemas.PROVIDERS)
        yield Problem("provider.type", f"{provider!r} is not known.{close} Known: {known}", "schema")
        return
    found = list(fits(document, schemas.launcher(provider)))
    yield from found
    if found:  # the rules below trust the shapes
        return
    yield from _node_types(document, provider)
    yield from _growth(document)
    yield from _tokens(document)
    yield from rules.secrets(document)
    yield from rules.dashboards(document)
    yield from rules.versions(document)
    yield from _images(document)
    yield from _doors(document)


def _node_types(document: dict[str, Any], provider: str) -> Iterator[Problem]:
    types = document.get("available_node_types")
    if provider == "local":
        if types:
            yield Problem("available_node_types", "machines of one's own have no node types", "schema")
        return
    head = document.get("head_node_type")
    if not types or head not in types:
        close = did_you_mean(str(head), types or ())
        yield Problem(
            "head_node_type", f"{head!r} is none of available_node_types.{close}".rstrip("."), "schema"
        )
        return
    if types[head]["resources"].get("CPU") != 0:
        yield Problem(
            f"available_node_types.{head}.resources",
            "the head offers CPUs, so that work may fill the memory that the cluster lives by; write CPU: 0",
            "conduct",
        )
    for name, node in types.items():
        place = f"available_node_types.{name}"
        if (
            node.get("min_workers", 0) > node.get("max_workers", document.get("max_workers", 0))
            and name != head
        ):
            yield Problem(f"{place}.min_workers", "is above max_workers", "schema")
        if name != head and node["resources"].get("GPU") and node.get("min_workers", 0) > 0:
            yield Problem(
                f"{place}.min_workers", "GPUs stay and are paid for while nothing runs; write 0", "conduct"
            )
    if document.get("idle_timeout_minutes", 5) < 5:
        yield Problem(
            "idle_timeout_minutes", "machines go before a model has loaded; write 5 or more", "conduct"
        )


def _growth(document: dict[str, Any]) -> Iterator[Problem]:
    starts = [line for line in document["head_start_ray_commands"] if "ray start" in line]
    if document.get("max_workers", 0) and not any("--autoscaling-config" in line for line in starts):
        yield Problem(
            "head_start_ray_commands",
            "the head never starts a worker; add --autoscaling-config=~/ray_bootstrap_config.yaml",
            "conduct",
        )


def _tokens(document: dict[str, Any]) -> Iterator[Problem]:
    for key in START:
        if not all("RAY_AUTH_MODE=token" in line for line in document[key] if "ray start" in line):
            yield rules.no_token(key, "start Ray by RAY_AUTH_MODE=token ray start ...")
    mounted = [target for target in document.get("file_mounts", {}) if target.endswith(TOKEN_FILE)]
    lines = [text for _, text in rules.texts(document.get("setup_commands", []))]
    for target in mounted:
        if not any(re.search(rf"chmod\s+(0?600|go-rwx)\s.*{TOKEN_FILE}", line) for line in lines):
            yield Problem(
                f"file_mounts.{target}",
                f"other users of the machines can read the token; add to setup_commands: chmod 600 {target}",
                "security",
            )


def _images(document: dict[str, Any]) -> Iterator[Problem]:
    image = document.get("docker", {}).get("image")
    if image is not None:
        from itscale.clusters.kuberay import image_problems

        yield from image_problems("docker.image", image)


def _doors(document: dict[str, Any]) -> Iterator[Problem]:
    for place, text in rules.texts(document["provider"], "provider"):
        if text in ("0.0.0.0/0", "::/0"):
            yield Problem(
                place, "the security group lets the whole internet in; name the network that may", "security"
            )
