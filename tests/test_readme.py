"""What the README and the documents show runs as it is shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from itscale.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").rglob("*.md"))]
QUICK = {"methods", "models", "rewards", "solvers"}
"""Commands that only list; the others are read up to their ``--help``, a run up to its plan."""


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language, each after as many empty lines as come before it."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text[: m.start(1)].count("\n") + m[1] for m in found]


def commands(text: str) -> list[str]:
    """Return the ``itscale`` command lines in shell blocks and in code within sentences."""
    fenced = [line for block in blocks(text, "bash") for line in block.splitlines()]
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = [
        p for line in [*fenced, *re.findall(r"`([^`]+)`", outside)] for p in re.split(r"&&|;|\||#", line)
    ]
    return sorted({part.strip() for part in parts if part.strip().startswith("itscale ")})


WITH_PYTHON = [path for path in DOCUMENTS if blocks(path.read_text(), "python")]
COMMANDS = sorted({c for path in DOCUMENTS for c in commands(path.read_text())})


def test_readme_has_what_these_tests_look_for():
    assert README in WITH_PYTHON
    assert len(blocks(README.read_text(), "python")) >= 3
    assert {"itscale run quickstart", "itscale verify"} <= set(COMMANDS)


@pytest.mark.parametrize("path", WITH_PYTHON, ids=lambda p: p.name)
def test_python_blocks_run_in_order(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(path.read_text(), "python"):
        exec(compile(block, str(path), "exec"), namespace)  # errors name the line of the document
    for name in re.findall(r'\.save\("([^"]+)"\)', path.read_text()):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_can_be_read(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    if words[0] in ("run", "demo"):
        words.append("--dry-run" if len(words) > 1 else "--help")
    elif words[0] not in QUICK:
        words.append("--help")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
