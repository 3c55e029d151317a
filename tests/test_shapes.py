"""The annotations of shapes hold over a run, and the check that says so finds what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKED_RUN = """
import torch
from tests import shapes

shapes.install()
import itscale
from itscale.methods import SVDD
from itscale.result import Best

mixture = itscale.models.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.5, 0.5])
for method in ("smc", SVDD(particles=2), "best-of-n"):
    result = itscale.sample(mixture, reward=lambda x: x[:, 0], method=method, steps=3, groups=2)
    result.best(), result.weights
itscale.sample(itscale.load("digits"), reward="digit - ink", n=2, steps=2, condition=3)
try:
    Best(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1, 1, dtype=torch.int64))
except Exception as error:
    print(type(error).__name__)
"""


def python(code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_shapes_hold_over_runs_and_a_wrong_one_is_found():
    done = python(CHECKED_RUN)
    assert (done.returncode, done.stdout) == (0, "TypeCheckError\n"), done.stderr


def test_users_do_not_pay_for_the_check():
    done = python("import sys, itscale.sampling; print('beartype' in sys.modules)")
    assert done.stdout == "False\n", done.stderr
