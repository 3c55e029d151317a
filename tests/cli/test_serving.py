"""``itscale serve-reward``, as its own process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import torch

from itscale.scoring import as_reward


def test_server_says_its_address_serves_and_stops(tmp_path):
    (tmp_path / "mine.py").write_text(
        "print('imported')\ndef red(images):\n    print('scored')\n    return images[:, 0].mean((1, 2))\n"
    )
    code = "from itscale.cli import main; main()"
    root = Path(__file__).resolve().parents[2]
    command = [
        sys.executable,
        "-c",
        code,
        "serve-reward",
        f"{tmp_path / 'mine.py'}:red",
        "--port",
        "0",
        "--json",
    ]
    process = subprocess.Popen(
        command,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background jobs ignore it
    )
    try:
        document = ""
        while not document.rstrip().endswith("}"):
            document += process.stdout.readline()
        facts = json.loads(document)
        assert facts["reward"] == "red"
        batch = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        there = as_reward({"name": "http", "url": facts["url"], "encoding": "npy"})
        torch.testing.assert_close(there.score(batch).values, batch[:, 0].mean((1, 2)))
        process.send_signal(signal.SIGINT)
        rest, loud = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert rest == ""
    assert "scored" in loud


def test_unknown_reward_is_a_usage_error(itscale_command):
    done = itscale_command("serve-reward", "brigtness")
    assert done.code == 2
    assert "'brightness'" in done.stderr


def test_empty_token_is_a_usage_error(itscale_command):
    done = itscale_command("serve-reward", "brightness", "--token-env", "NO_SUCH_TOKEN")
    assert done.code == 2
    assert "NO_SUCH_TOKEN" in done.stderr
