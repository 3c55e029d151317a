"""``itscale run`` and ``itscale report`` with the page itself."""

from __future__ import annotations

import re

import pytest

CONFIG = "{model: gaussian-mixture, reward: './mine.py:right', run: {steps: 2, groups: 2}}"


def test_page_of_a_run_is_where_the_command_says(itscale_command, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    (tmp_path / "mine.py").write_text("def right(samples):\n    return samples[:, 0]\n")
    (tmp_path / "mine.yaml").write_text(CONFIG)
    ran = itscale_command("run", "mine.yaml", "--out", "here")
    assert ran.code == 0, ran.stderr
    told = re.search(r"report: (.+)", ran.stdout)
    again = itscale_command("report", "here")
    assert told is not None
    assert (again.code, again.stdout.strip()) == (0, told[1])
    assert (tmp_path / told[1]).read_text().startswith("<!")


def test_folder_without_a_run_is_a_usage_error(itscale_command):
    done = itscale_command("report", "nowhere")
    assert (done.code, done.stdout, len(done.stderr.splitlines())) == (2, "", 3)
