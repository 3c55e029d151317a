"""Calibrated twisted SMC on problems that its settings never saw, beside plain SMC at equal cost.

    python -m itscale.experiments.cts_held_out --out runs/cts
    python -m itscale.experiments.cts_held_out --out runs/cts --report

Mixtures of eight Gaussians in 16 dimensions with their exact velocity; 20 ancestral steps, 25 particles. An
instance is a seed for means and rewards. Profiles are pooled over eight other instances, 16 trajectories of
each. The truth is that of the discretised sampler, from eight large runs. "Gain" is the mean squared error of
plain SMC over that of the method, in E[r] and in log Z: the factor of extra evaluations that SMC would need;
a geometric mean over instances, its standard error from the runs. One JSON line per reward, tilt and
instance; a call goes on where the one before stopped, and adds what a line lacks.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itscale.methods import CTS, SMC, TDS, ImportanceSampling, Profile, Unguided
from itscale.models import GaussianMixture
from itscale.process import SDE
from itscale.result import Result
from itscale.sampling import sample
from itscale.sampling.pilots import recorded
from itscale.scoring import Reward
from itscale.scoring import reward as reward_of

STEPS, PARTICLES, COMPONENTS, DIMENSION = 20, 25, 8, 16
HELD_OUT, OTHERS = range(800, 808), range(8)
LARGE, LARGE_RUNS = 8192, 8
REWARDS = ("linear", "quad", "count", "rough", "bumps")
WITHOUT_GRADIENT = ("count",)


@dataclass(frozen=True)
class Instance:
    """A mixture and a reward on it."""

    model: GaussianMixture
    reward: Reward

    @classmethod
    def of(cls, seed: int, name: str) -> Instance:
        generator = torch.Generator().manual_seed(seed)
        draw = functools.partial(torch.randn, generator=generator)
        means = 1.2 * draw(COMPONENTS, DIMENSION)
        model = GaussianMixture([1.0] * COMPONENTS, means, [0.5] * COMPONENTS)
        function = _function(name, means, draw)
        make = reward_of(name=name, modality="vector", differentiable=name not in WITHOUT_GRADIENT)
        return cls(model, make(function))

    def sample(self, method: Any, tilt: float = 1.0, groups: Any = 1, seed: int = 0, **more: Any) -> Result:
        return sample(
            self.model,
            reward=self.reward,
            method=method,
            tilt=tilt,
            groups=groups,
            steps=STEPS,
            process=SDE(),
            solver="ancestral",
            seed=seed,
            **more,
        )

    def deviation(self) -> float:
        """Standard deviation of the reward over unguided samples."""
        return float(self.sample(Unguided(particles=4096), seed=5).rewards.std())


def _function(name: str, means: Tensor, draw: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    if name == "linear":
        direction = draw(DIMENSION)
        direction = direction / direction.norm()
        return lambda vectors: vectors @ direction
    if name == "quad":
        centre = means[0] / 2 + 0.5 * draw(DIMENSION)
        return lambda vectors: -(vectors - centre).square().sum(-1)
    if name == "count":
        return lambda vectors: -((vectors > 0.5).sum(-1) - 11).abs().float()
    if name == "rough":  # early denoised samples hardly predict it
        size, wave, phase = draw(24), draw(24, DIMENSION), math.pi * draw(24)
        return lambda vectors: (vectors @ wave.T + phase).sin() @ size
    # a wide bump around one component, and a narrow higher one beside another: early rewards deceive
    aside = draw(DIMENSION)
    high = means[1] + aside / aside.norm()
    return lambda vectors: torch.logaddexp(
        -(vectors - means[0]).square().sum(-1) / 18, 2.5 - (vectors - high).square().sum(-1) / 2
    )


def pooled_profile(name: str) -> Profile:
    """Sixteen trajectories of each of eight other instances, together."""

    def draw(condition: Instance, **settings: Any) -> Result:
        return condition.sample(seed=17, **settings)

    instances = [Instance.of(seed, name) for seed in OTHERS]
    return recorded(draw, list(OTHERS), instances, 16).profile()


def entrants(profile: Profile, smooth: bool) -> dict[str, Any]:
    cts = functools.partial(CTS, particles=PARTICLES, profile=profile)
    gradients = {
        "CTS, gradient": cts(drift="denoised"),
        "CTS, gradient, half": cts(drift="denoised", schedule="half"),
        "gradients through the network, a third of the particles": TDS(particles=PARTICLES // 3),
    }
    return {
        "SMC": SMC(particles=PARTICLES),
        "importance": ImportanceSampling(particles=PARTICLES),
        "CTS, no drift": cts(drift="none"),
        "CTS, population": cts(drift="population"),
        "CTS, regression": cts(drift="regression"),
        "CTS, population, half": cts(drift="population", schedule="half"),
        **(gradients if smooth else {}),
    }


def truth_of(instance: Instance, profile: Profile, tilt: float) -> dict[str, float]:
    """E[r] and log Z under the discretised sampler, with their standard errors."""
    drift = "denoised" if instance.reward.gradient_ready else "none"
    method = CTS(particles=LARGE, profile=profile, drift=drift, schedule="half")
    large = instance.sample(method, tilt, LARGE_RUNS, seed=11)
    expected = large.expect(large.rewards, "evidence")
    evidence = (large.log_evidence - large.log_evidence.max()).exp()
    return {
        "expected": expected.value,
        "expected_error": expected.standard_error,
        "log_z": float(large.log_evidence.max() + evidence.mean().log()),
        "log_z_error": float(evidence.std() / evidence.mean()) / math.sqrt(LARGE_RUNS),
    }


def measure(
    seed: int, name: str, spread: float, runs: int, profile: Profile, known: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Squared errors of every entrant on one instance: means, and relative standard errors of these.

    Args:
        known: a row of earlier measurements; only what it lacks is run.
    """
    instance = Instance.of(seed, name)
    row = dict(known or {})
    if not row:
        deviation = instance.deviation()
        row = {"reward": name, "spread": spread, "seed": seed, "tilt": spread / deviation}
        row |= truth_of(instance, profile, row["tilt"])
    deviation = spread / row["tilt"]
    profile = replace(profile, reward_std=deviation)
    for label, method in entrants(profile, instance.reward.gradient_ready).items():
        if label in row:
            continue
        found = instance.sample(method, row["tilt"], runs, seed=3)
        squares = (
            ((found.expect(found.rewards).per_group - row["expected"]) / deviation) ** 2,
            (found.log_evidence - row["log_z"]) ** 2,
        )
        evidence = (found.log_evidence - row["log_z"]).exp()
        row[label] = {
            "errors": [float(s.mean()) for s in squares],
            "relative": [float(s.std() / s.mean()) / math.sqrt(runs) for s in squares],
            "evidence": [float(evidence.mean()), float(evidence.std()) / math.sqrt(runs)],
            "looks": max(found.spent.nfe) + 2 * found.spent.backward_rows // runs,
        }
    return row


def study(out: Path, runs: int, spreads: list[float], rewards: list[str], seeds: list[int]) -> None:
    file = out / "held-out.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    done = {(r["reward"], r["spread"], r["seed"]): r for r in read(file)}
    profiles: dict[str, Profile] = {}
    for seed, name, spread in itertools.product(seeds, rewards, spreads):
        known = done.get((name, spread, seed))
        if name not in profiles:
            profiles[name] = pooled_profile(name)
        row = measure(seed, name, spread, runs, profiles[name], known)
        if row != known:
            with file.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")
            print(name, spread, seed, flush=True)


def read(file: Path) -> list[dict[str, Any]]:
    """Return the newest row of every problem; a torn last line is left out."""
    lines = file.read_text(encoding="utf-8").split("\n") if file.exists() else []
    rows = [json.loads(line) for line in lines[:-1]]
    return list({(r["reward"], r["spread"], r["seed"]): r for r in rows}.values())


def gain(rows: list[dict[str, Any]], label: str, which: int) -> tuple[float, float]:
    """Geometric mean over instances of SMC's squared error over the method's, and its relative error."""
    logs = [math.log(r["SMC"]["errors"][which] / r[label]["errors"][which]) for r in rows]
    noise = sum(r["SMC"]["relative"][which] ** 2 + r[label]["relative"][which] ** 2 for r in rows)
    return math.exp(sum(logs) / len(logs)), math.sqrt(noise) / len(rows)


def report(out: Path) -> str:
    rows = read(out / "held-out.jsonl")
    tables = []
    for spread in sorted({r["spread"] for r in rows}):
        columns = {n: [r for r in rows if (r["reward"], r["spread"]) == (n, spread)] for n in REWARDS}
        columns = {name: own for name, own in columns.items() if own}
        labels = dict.fromkeys(
            label for own in columns.values() for label, cell in own[0].items() if isinstance(cell, dict)
        )
        lines = [f"| tilt sd(r) = {spread:g} | " + " | ".join(columns) + " |"]
        lines.append("| --- |" + " --- |" * len(columns))
        lines.append("| SMC: errors | " + " | ".join(_errors(own) for own in columns.values()) + " |")
        for label in list(labels)[1:]:
            cells = [_cell(own, label) if label in own[0] else "-" for own in columns.values()]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _errors(rows: list[dict[str, Any]]) -> str:
    """Root mean squared errors of SMC over all instances."""
    squares = [[r["SMC"]["errors"][i] for r in rows] for i in (0, 1)]
    return " / ".join(f"{math.sqrt(sum(s) / len(s)):.2f}" for s in squares)


def _cell(rows: list[dict[str, Any]], label: str) -> str:
    found = [gain(rows, label, which) for which in (0, 1)]
    return " / ".join(f"{ratio:.3g} ± {ratio * error:.1g}" for ratio, error in found)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--spreads", type=float, nargs="+", default=[2.0, 4.0], help="tilt times sd(r)")
    parser.add_argument("--rewards", nargs="+", choices=REWARDS, default=list(REWARDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(HELD_OUT))
    parser.add_argument("--report", action="store_true", help="print the tables and run nothing")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.report:
        study(args.out, args.runs, args.spreads, args.rewards, args.seeds)
    print(report(args.out))


if __name__ == "__main__":
    main()
