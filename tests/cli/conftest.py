"""Running a command line inside the test process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from itscale.cli.app import app


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@pytest.fixture
def itscale_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run ``itscale WORDS...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Done:
        result = CliRunner().invoke(app, [str(word) for word in words])
        return Done(result.exit_code, result.stdout, result.stderr)

    return run
