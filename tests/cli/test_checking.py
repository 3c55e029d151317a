"""``itscale check-reward`` and ``itscale verify``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest


def test_good_reward_passes(itscale_command):
    done = itscale_command("check-reward", "0.5 * symmetry(axis='v') + ink")
    assert done.code == 0
    assert "6 of 6 checks passed" in done.stdout


def test_reward_that_normalises_over_the_batch_fails(itscale_command, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def centred(images):\n    print('hello')\n"
        "    score = images.mean((1, 2, 3))\n    return score - score.mean()\n"
    )
    done = itscale_command("check-reward", "./mine.py:centred")
    assert done.code == 1
    assert "FAIL" in done.stdout
    assert "hello" not in done.stdout
    assert "hello" in done.stderr


def test_unknown_reward_is_a_usage_error(itscale_command):
    done = itscale_command("check-reward", "brigtness")
    assert done.code == 2
    assert "'brightness'" in done.stderr


@dataclass(frozen=True)
class Check:
    method: str
    quantity: str
    value: float
    truth: float
    standard_error: float
    tolerance: float
    passed: bool


@pytest.fixture
def battery(monkeypatch):
    """Stand in for the battery, which takes minutes; returns its arguments and lets its checks be chosen."""
    asked: list[dict] = []
    checks = [Check("smc", "E[x]", 2.57, 2.571, 0.01, 0.04, True)]

    def run_battery(**options):
        asked.append(options)
        print("loud library")
        return list(checks)

    module = ModuleType("itscale.verify")
    module.run_battery = run_battery
    monkeypatch.setitem(sys.modules, "itscale.verify", module)
    return asked, checks


def test_verify_passes_its_options_on_and_prints_one_line_a_check(itscale_command, battery):
    done = itscale_command("verify", "--quick")
    assert done.code == 0
    assert battery[0] == [{"quick": True, "full": False}]
    assert "2.571" in done.stdout
    assert "1 of 1 checks passed" in done.stdout
    assert "loud library" not in done.stdout


def test_verify_fails_with_a_check_and_prints_json_alone(itscale_command, battery):
    battery[1].append(Check("svdd", "E[x]", float("nan"), 2.571, 0.01, 0.04, False))
    done = itscale_command("verify", "--full", "--json")
    assert done.code == 1
    assert done.json["failed"] == 1
    assert done.json["checks"][1]["value"] is None


def test_quick_and_full_exclude_each_other(itscale_command, battery):
    assert itscale_command("verify", "--quick", "--full").code == 2
    assert battery[0] == []
