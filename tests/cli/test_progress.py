"""Progress, sizes and durations."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from itscale.cli import output
from itscale.cli.progress import Bar, Lines, Reporter
from itscale.runs.events import CellDone, CellRetried, CellStarted, RunStarted, StepDone


class Recorder:
    """A display that remembers."""

    def __init__(self):
        self.shown, self.closed = [], False

    def show(self, share, text):
        self.shown.append((share, text))

    def close(self):
        self.closed = True


def step(level, index=0, best=1.5):
    return StepDone(index, 4, "k", "smc", level, 10, ess=3.25, best=best, nfe=level)


def test_share_counts_cells_and_steps_and_what_was_done_before():
    display = Recorder()
    with Reporter(display) as listen:
        listen(RunStarted(Path("o"), cells=4, done=2))
        listen(step(5))
        listen(CellDone(0, 4, "k", "smc", {}, None, 1.0))
        listen(step(10, index=1))
    assert [share for share, _ in display.shown] == pytest.approx([0.625, 0.75, 1.0])
    assert display.closed


def test_cells_that_run_at_once_count_together_and_a_retried_one_starts_again(capsys):
    display = Recorder()
    listen = Reporter(display)
    listen(RunStarted(Path("o"), cells=4, done=0))
    listen(step(5))
    listen(step(10, index=1))
    listen(CellRetried(0, 4, "k", "smc", "its worker process was killed by SIGKILL"))
    listen(CellDone(1, 4, "k", "smc", {}, None, 1.0))
    listen(step(1, index=0))
    assert [share for share, _ in display.shown] == pytest.approx([0.125, 0.375, 0.25, 0.275])
    assert "cell 1/4 smc is tried again: its worker process was killed" in capsys.readouterr().err


def test_time_before_the_first_cell_is_not_extrapolated(monkeypatch):
    display = Recorder()
    listen = Reporter(display)
    clock = iter([listen.started + 100, listen.started + 110])
    monkeypatch.setattr("itscale.cli.progress.time.perf_counter", lambda: next(clock))
    listen(RunStarted(Path("o"), cells=4, done=0))
    listen(CellStarted(0, 4, "k", "smc", 10, 100))
    listen(step(5))  # half a cell took 10 s: three and a half are left
    assert display.shown[-1][1].endswith("ETA 1:10 min")


def test_text_has_step_best_reward_ess_and_eta(monkeypatch):
    display = Recorder()
    listen = Reporter(display)
    monkeypatch.setattr("itscale.cli.progress.time.perf_counter", lambda: listen.started + 30)
    listen(RunStarted(Path("o"), cells=4, done=2))
    listen(step(5))  # half a cell took 30 s: one and a half are left
    assert display.shown[-1][1] == "cell 1/4 smc, step 5/10, best 1.5, ESS 3.2, ETA 1:30 min"
    listen(step(5, best=float("nan")))
    assert "best" not in display.shown[-1][1]


def test_failed_cell_is_told_at_once(capsys):
    Reporter(Recorder())(CellDone(0, 4, "k", "smc", None, "ValueError: no", 1.0))
    assert "cell 1/4 smc failed: ValueError: no" in capsys.readouterr().err


def test_lines_come_once_for_each_tenth(capsys):
    lines = Lines()
    for i in range(101):
        lines.show(i / 100, "x")
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == [
        str(10 * k) for k in range(1, 11)
    ]


def test_bar_is_drawn_on_a_terminal_and_removed(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Reporter() as listen:
        assert isinstance(listen.display, Bar)
        listen.display.show(0.5, "half [bold] way")
        listen.display.progress.refresh()
    assert "half [bold] way" in terminal.getvalue()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2 MB"), (3e15, "3e+03 TB")]
)
def test_sizes(count, text):
    assert output.as_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (75, "1:15 min"), (3599, "59:59 min"), (7260, "2:01 h")]
)
def test_durations(seconds, text):
    assert output.as_duration(seconds) == text


def test_json_refuses_what_json_does_not_have():
    with pytest.raises(ValueError, match="JSON"):
        output.print_json({"x": float("nan")})
