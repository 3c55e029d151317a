"""Learn a value on the bundled digits, and see what it is worth beside the reward of the denoised sample.

    python -m itscale.experiments.train_value --out runs/value
    python -m itscale.experiments.train_value --reward "symmetry(axis='v')" --out runs/value

Fits ``values.Learned`` on a few hundred samples of each digit, prints how much of the final reward (within
a digit) it and the reward of the denoised sample explain at the same times, and steers with either at equal
evaluations.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from itscale.methods import SMC
from itscale.models import load
from itscale.sampling import calibrate, fit_value, sample
from itscale.values import Value

STEPS, PARTICLES, DIGITS = 20, 16, list(range(10))


def explained_by_denoised(reward: Any, at: list[float]) -> dict[str, float]:
    """Squared correlation of the denoised sample's reward with the final one, pooled within digits."""
    profile = calibrate(
        load("digits"), reward, condition=DIGITS, groups=len(DIGITS), trajectories=16, steps=STEPS
    )
    assert profile.correlation is not None
    times = torch.tensor(profile.times)
    return {f"{t:g}": round(profile.correlation[int((times - t).abs().argmin())], 4) for t in at}


def steered(reward: Any, value: str | Value, tilt: float, groups: int) -> dict[str, float]:
    """Means over groups of runs at equal evaluations."""
    result = sample(
        load("digits"),
        reward=reward,
        value=value,
        method=SMC(particles=PARTICLES),
        steps=STEPS,
        tilt=tilt,
        condition=[DIGITS[g % len(DIGITS)] for g in range(groups)],
        groups=groups,
        held_out="digit",
        seed=1,
    )
    expected = result.expect(result.rewards)
    return {
        "expected reward": round(expected.value, 4),
        "standard error": round(expected.standard_error, 4),
        "best reward": round(float(result.rewards.amax(dim=1).mean()), 4),
        "held out": round(float(result.expect(result.held_out).value), 4),
        "deviation of log Z": round(_within(result.log_evidence), 3),
        "evaluations": result.spent.nfe[0],
        "reward calls": result.spent.reward_calls[0],
        "seconds": round(result.spent.seconds, 1),
    }


def _within(log_z: torch.Tensor) -> float:
    """Deviation over runs of the same digit."""
    rows = log_z.reshape(-1, len(DIGITS))
    return float(rows.var(dim=0).mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reward", default="jpeg-compressibility", help="a reward by name")
    parser.add_argument("--samples", type=int, default=200, help="of each digit")
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--spread", type=float, default=2.0, help="tilt times the reward's deviation")
    parser.add_argument("--groups", type=int, default=40, help="runs of each kind, a multiple of 10")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    value = fit_value(
        load("digits"),
        given.reward,
        given.out / "value.pt",
        condition=DIGITS,
        groups=len(DIGITS),
        samples=given.samples,
        steps=STEPS,
        updates=given.updates,
    )
    learned = value.facts["explained"]
    base = sample(load("digits"), reward=given.reward, n=PARTICLES, condition=DIGITS, groups=10, steps=STEPS)
    tilt = given.spread / float(base.rewards.std(dim=1).mean())
    report = {
        "reward": given.reward,
        "tilt": round(tilt, 3),
        "explained, learned": learned,
        "explained, denoised": explained_by_denoised(given.reward, [float(t) for t in learned]),
        "steered": {
            name: steered(given.reward, chosen, tilt, given.groups)
            for name, chosen in {"denoised": "denoised", "learned": value}.items()
        },
    }
    (given.out / "value.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
