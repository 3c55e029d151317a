"""``itscale compare``."""

from __future__ import annotations


def test_conclusion_is_the_last_line_and_json_is_alone(itscale_command, folder):
    for name, method in (("a", "smc"), ("b", "best-of-n")):
        done = itscale_command("sweep", "mine.yaml", f"method={method}", "run.seed=0,1,2", "run.budget.nfe=8",
                               "--out", name, "--workers", "1")  # fmt: skip
        assert done.code == 0, done.stderr
    told = itscale_command("compare", "a", "b")
    assert told.code == 0, told.stderr
    last = told.stdout.rstrip().splitlines()[-1]
    assert "on 6 pairs" in last
    assert "method" in told.stdout
    found = itscale_command("compare", "a", "b", "--json").json
    assert found["conclusion"] == last
    assert found["measures"]["nfe"]["paired"]["difference"]["mean"] == 0
    assert found["unmatched"] == [0, 0]


def test_folder_without_a_run_and_other_rewards_are_usage_errors(itscale_command, folder):
    assert itscale_command("run", "mine.yaml", "--out", "a").code == 0
    assert itscale_command("run", "mine.yaml", "reward=./other.py:up", "--out", "b").code == 2
    (folder / "other.py").write_text("def up(samples):\n    return samples[:, 1]\n")
    assert itscale_command("run", "mine.yaml", "reward=./other.py:up", "--out", "b").code == 0
    refused = itscale_command("compare", "a", "b")
    assert (refused.code, refused.stdout) == (2, "")
    assert "different rewards" in refused.stderr
    assert "holds no run" in itscale_command("compare", "a", "nowhere").stderr
