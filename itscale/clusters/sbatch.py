"""SLURM scripts."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

from itscale.clusters import rules
from itscale.clusters.check import Problem


def problems(text: str) -> Iterator[Problem]:
    """What is wrong with a script."""
    yield from _syntax(text)
    lines = dict(enumerate(text.splitlines(), 1))
    code = {number: line.split(" #")[0] for number, line in lines.items() if not line.startswith("#")}
    options = [line for line in lines.values() if line.startswith("#SBATCH")]
    yield from _options(options)
    for number, line in code.items():
        if re.search(r"(^|[;&|]\s*)\s*sleep\s", line):
            yield Problem(
                f"line {number}", "a fixed sleep is too short one day; poll until a deadline", "conduct"
            )
        if re.search(r"ray\s+stop", line):
            yield Problem(
                f"line {number}",
                "ray stop ends every Ray of this user; end the processes started here",
                "conduct",
            )
        if "--pool" in line and "--resume" not in line and "itscale sweep" in line:
            yield Problem(f"line {number}", "a requeued job is refused; add --resume", "conduct")
    yield from rules.dashboards(code_texts(code))
    yield from rules.secrets(code_texts(code))
    if any("ray start" in line for line in code.values()):
        yield from _ray("\n".join(code.values()))


def code_texts(code: dict[int, str]) -> dict[str, str]:
    """Lines with their places."""
    return {f"line {number}": line for number, line in code.items()}


def _syntax(text: str) -> Iterator[Problem]:
    if shutil.which("bash") is None:
        return
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        yield Problem("the file", f"bash cannot read it: {done.stderr.strip().splitlines()[0]}", "schema")


def _options(options: list[str]) -> Iterator[Problem]:
    wanted = {
        "--time": "a job without --time is killed at a moment that nobody chose",
        "--requeue": "a preempted job ends for good; add --requeue",
        "--signal": "the job is not told before it is killed; add --signal=B:USR1@120",
    }
    for option, why in wanted.items():
        if not any(option in line for line in options):
            yield Problem("#SBATCH", why, "conduct")


def _ray(code: str) -> Iterator[Problem]:
    if not re.search(r"export\s[^\n]*RAY_AUTH_MODE=token", code):
        yield rules.no_token("the file", "export RAY_AUTH_MODE=token before ray start")
    token = re.search(r">\s*\"?[^\s\"]*token", code)
    mask = re.search(r"umask\s+0?077", code)
    if token is None or "RAY_AUTH_TOKEN_PATH" not in code:
        yield Problem("the file", "no token is made; write one and set RAY_AUTH_TOKEN_PATH", "security")
    elif mask is None or mask.start() > token.start():
        yield Problem("the file", "others can read the token; put umask 077 before it is written", "security")
    if "--temp-dir" not in code:
        yield Problem("the file", "jobs on one machine share /tmp/ray; give --temp-dir", "conduct")
    if not re.search(r"deadline|timeout\s", code):
        yield Problem("the file", "waits for Ray without end; poll until a deadline", "conduct")
