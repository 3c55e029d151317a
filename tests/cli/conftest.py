"""Running a command line inside the test process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from itscale import runs
from itscale.cli.app import app

REWARDS = """
import json, pathlib
import torch

def right(samples):
    print("loud reward")
    return samples[:, 0]

def broken(samples):
    raise OSError("disk on fire")

def stopped(samples):
    if not pathlib.Path("go-on").exists():
        raise KeyboardInterrupt
    return samples[:, 0]
"""
CONFIG = """
model: gaussian-mixture
reward: ./mine.py:right
method: {name: smc, particles: 4}
run: {steps: 2, groups: 2}
"""


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


@pytest.fixture
def reported(monkeypatch):
    """Stand in for the report, which draws figures; returns the folders it was asked for."""
    asked = []
    monkeypatch.setitem(vars(runs), "report", lambda folders: asked.append(folders) or Path("page.html"))
    return asked


@pytest.fixture
def folder(itscale_command, reported, tmp_path):
    """The working folder, with a configuration and rewards."""
    (tmp_path / "mine.py").write_text(REWARDS)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    return tmp_path
