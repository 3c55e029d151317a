"""Calibration pays on problems that it never saw: a small part of ``itscale.experiments.cts_held_out``."""

from __future__ import annotations

import pytest

from itscale.experiments import cts_held_out as study

INSTANCES, RUNS = (800, 801, 802, 803), 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reward", "least"),
    [
        ("linear", {"CTS, population": 1.25, "CTS, gradient": 1.4}),
        ("rough", {"CTS, population": 6.0, "CTS, gradient": 12.0}),
    ],
)
def test_calibration_saves_evaluations_on_fresh_instances(reward, least):
    """Gains in log Z at tilt sd(r) = 2; published 1.6, 1.8, 12 and 24, standard errors here 5 to 8 %.

    E[r] must not become worse.
    """
    profile = study.pooled_profile(reward)
    rows = [study.measure(seed, reward, 2.0, RUNS, profile) for seed in INSTANCES]
    for label, gain in least.items():
        expected, evidence = (study.gain(rows, label, which)[0] for which in (0, 1))
        assert evidence >= gain, label
        assert expected >= 0.9, label
        assert {row[label]["looks"] for row in rows} == {study.STEPS * study.PARTICLES}
