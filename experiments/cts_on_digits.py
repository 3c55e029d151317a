"""Does calibrated twisted SMC hold on a network? Errors of E[r] and log Z at equal cost on the digits.

    python -m itscale.experiments.cts_on_digits --out runs/cts

For each reward and tilt: a reference from eight large runs, then a hundred small runs of each method with 400
network evaluations. "Gain" is the mean squared error of plain SMC over that of the method: the factor of
extra evaluations that SMC would need. Profiles come from eight other digits than the one that is steered.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from itscale.methods import CTS, DAS, SMC, Profile
from itscale.methods.base import Method
from itscale.models import load
from itscale.result import Result
from itscale.sampling import calibrate, sample
from itscale.scoring import as_reward

STEPS, PARTICLES, DIGIT = 20, 20, 3
OTHERS = [0, 1, 2, 4, 5, 6, 7, 9]
REWARDS: dict[str, Any] = {
    "ink": "ink",
    "mirror": "symmetry(axis='v')",
    "bold": [{"name": "digit"}, {"name": "ink", "weight": 40}],
    "small file": "jpeg-compressibility",
}


def sampled(reward: Any, method: Method, tilt: float, groups: int, seed: int) -> Result:
    return sample(
        load("digits"),
        reward=reward,
        method=method,
        condition=DIGIT,
        groups=groups,
        steps=STEPS,
        tilt=tilt,
        seed=seed,
    )


def errors(result: Result, truth: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared errors of E[r] and log Z of every group."""
    return (result.expect(result.rewards).per_group - truth[0]) ** 2, (result.log_evidence - truth[1]) ** 2


def gain(base: torch.Tensor, own: torch.Tensor) -> tuple[float, float]:
    """Ratio of means with its standard error, to first order."""
    ratio = float(base.mean() / own.mean())
    parts = [float(v.std() / v.mean()) / math.sqrt(len(v)) for v in (base, own)]
    return ratio, ratio * math.hypot(*parts)


def study(out: Path, groups: int, spreads: list[float]) -> None:
    file = out / "cts.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = file.read_text().splitlines() if file.exists() else []
    done = {json.loads(line)["key"] for line in lines}
    model = load("digits")
    for name, expression in REWARDS.items():
        reward = as_reward(expression)
        profile: Profile | None = None
        for spread in spreads:
            key = f"{name}|{spread:g}"
            if key in done:
                continue
            if profile is None:
                profile = calibrate(model, reward, condition=OTHERS, steps=STEPS)
            tilt = spread / profile.reward_std
            large = sampled(reward, CTS(particles=512, profile=profile), tilt, 8, 11)
            evidence = float(torch.logsumexp(large.log_evidence, 0)) - math.log(8)
            expected = large.expect(large.rewards)
            truth = (expected.value, evidence)
            methods: dict[str, Method] = {
                "smc": SMC(particles=PARTICLES),
                "cts, no drift": CTS(particles=PARTICLES, profile=profile, drift="none"),
                "cts, population": CTS(particles=PARTICLES, profile=profile, drift="population"),
            }
            if reward.gradient_ready:
                methods["cts, gradient"] = CTS(particles=PARTICLES, profile=profile)
                methods["das, a third of the particles"] = DAS(particles=PARTICLES // 3)
            found = {
                label: errors(sampled(reward, method, tilt, groups, 3), truth)
                for label, method in methods.items()
            }
            row: dict[str, Any] = {"key": key, "reward": name, "spread": spread, "tilt": tilt}
            row |= {"expected": expected.value, "expected_error": expected.standard_error, "log_z": evidence}
            row |= {"log_z_spread": float(large.log_evidence.std()), "profile_nfe": profile.nfe}
            row |= {"correlation_at_half": (profile.correlation or (math.nan,))[STEPS // 2]}
            for label, own in found.items():
                row[label] = [*gain(found["smc"][0], own[0]), *gain(found["smc"][1], own[1])]
            row["smc rmse"] = [float(v.mean().sqrt()) for v in found["smc"]]
            with file.open("a") as handle:
                handle.write(json.dumps(row) + "\n")
            print(row, flush=True)


def report(out: Path) -> str:
    rows = [json.loads(line) for line in (out / "cts.jsonl").read_text().splitlines()]
    labels = [k for k in rows[0] if k.startswith(("cts", "das"))]
    lines = [
        "| reward, tilt sd(r) | " + " | ".join(labels) + " |",
        "| --- |" + " --- |" * len(labels),
    ]
    for row in rows:
        cells = [
            "{:.2f} ± {:.2f} / {:.2f} ± {:.2f}".format(*row[label]) if label in row else "-"
            for label in labels
        ]
        lines.append(f"| {row['reward']}, {row['spread']:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--spreads", type=float, nargs="+", default=[2.0, 4.0], help="tilt times sd(r)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    study(args.out, args.groups, args.spreads)
    print(report(args.out))


if __name__ == "__main__":
    main()
