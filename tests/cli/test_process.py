"""The command line as a process of its own: what it loads, and what really reaches stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import itscale

ROOT = Path(itscale.__file__).parents[1]
HEAVY = {
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "open_clip",
    "ray",
    "rdkit",
    "matplotlib",
    "scipy",
    "yaml",
}
PROBE = """
import sys
from itscale.cli import main
try:
    main()
except SystemExit as end:
    print(*sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
    raise
"""


def start(*words):
    return subprocess.run([sys.executable, "-c", PROBE, *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_and_version_do_not_load_torch(words):
    done = start(*words)
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(done.stderr.split()) == set()


def test_unknown_command_does_not_load_torch():
    done = start("rewrds")
    assert done.returncode == 2
    assert "torch" not in done.stderr.splitlines()[-1].split()


def test_json_is_alone_on_stdout_of_a_process():
    done = start("run", "quickstart", "model=gaussian-mixture", "reward=null", "held_out=null", "sweep=null",
                 "method=unguided", "process=null", "--dry-run", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total"]["cells"] == 1
    assert "diffusers" not in done.stderr.split()
