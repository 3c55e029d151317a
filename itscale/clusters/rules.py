"""Rules that all kinds of cluster files share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from itscale.clusters.check import Problem

OLDEST = (2, 54)
"""Ray before it lets anybody who reaches its jobs interface delete jobs (CVE-2026-27482)."""
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY", re.IGNORECASE)
SECRET_TEXT = re.compile(
    r"\b(AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|[0-9a-f]{64})\b"
)
ASSIGNED = re.compile(
    r"\b(\w*(?:AUTH_TOKEN|SECRET|PASSWORD|API_?KEY|ACCESS_KEY)\w*)=([^\s;'\"]+)", re.IGNORECASE
)
EVERYWHERE = re.compile(r"dashboard-host[=\s:]+[\"']?(0\.0\.0\.0|::)")
VERSION = re.compile(r"ray(?:\[[\w,]+\])?==(\d+)\.(\d+)")


def texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document, with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(inner, f"{place}.{index}")
    elif isinstance(value, str):
        yield place, value


def secrets(document: Any) -> Iterator[Problem]:
    """Secrets that are written into the file."""
    for place, text in texts(document):
        assigned = next(
            (name for name, value in ASSIGNED.findall(text) if not value.startswith(("$", "~", "/"))
             and not name.upper().endswith(("_PATH", "_FILE", "_ENV"))), None,
        )  # fmt: skip
        if SECRET_TEXT.search(text) or assigned:
            yield Problem(
                place,
                f"a secret is written here{f' ({assigned})' if assigned else ''}; take it from a "
                "file of mode 600, or a Kubernetes Secret",
                "security",
            )


def dashboards(document: Any) -> Iterator[Problem]:
    """Dashboards that all machines reach."""
    for place, text in texts(document):
        is_param = place.endswith("dashboard-host") and text in ("0.0.0.0", "::")
        if is_param or EVERYWHERE.search(text):
            yield Problem(
                place,
                "the dashboard, which runs jobs, listens everywhere; write dashboard-host 127.0.0.1 and "
                "forward its port",
                "security",
            )


def versions(document: Any) -> Iterator[Problem]:
    """Versions of Ray that are installed and too old."""
    for place, text in texts(document):
        for major, minor in VERSION.findall(text):
            yield from too_old(place, (int(major), int(minor)))


def too_old(place: str, version: tuple[int, int]) -> Iterator[Problem]:
    """Whether a version of Ray is older than the oldest one."""
    if version < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        yield Problem(
            place,
            f"Ray {version[0]}.{version[1]} lets whoever reaches it delete jobs; take {wanted} or newer",
            "security",
        )


def no_token(place: str, how: str) -> Problem:
    """The problem that anybody may join."""
    return Problem(place, f"whoever reaches the cluster may run code on it: {how}", "security")
