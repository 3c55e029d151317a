"""Molecule design at equal numbers of reward calls: methods on two objectives, and where the time goes.

    python -m itscale.experiments.molecule_methods --base runs/zinc-samples.smi --out runs/methods.json

Best-of-N is the best of the unguided samples that ``evaluate_molecules.py`` left, in as many groups as there
are calls for. Every other method runs with a budget of reward calls; network evaluations are stated beside.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from itscale.rewards.molecule import canonical_smiles

from itscale import methods
from itscale.budget import Budget
from itscale.models.loading import load
from itscale.runs.molecules import internal_diversity
from itscale.sampling import sample
from itscale.scoring import as_reward

OBJECTIVES = {
    "QED": ("qed", 50.0),
    "QED x SA x logP in 1 to 3": ("qed * synthesizability * logp(low=1, high=3)", 30.0),
}
LENGTH = 60


def chosen(calls: int) -> dict[str, Any]:
    """Methods with the numbers that spend a budget of reward calls."""
    return {
        "smc": methods.SMC(),
        "smc, every third level": methods.SMC(score_every=3),
        "nested-smc, 4 children": methods.NestedSMC(children=4),
        "svdd": methods.SVDD(particles=1, children=max(2, calls // LENGTH)),
        "svdd, argmax": methods.SVDD(particles=1, children=max(2, calls // LENGTH), selection="argmax"),
        "beam": methods.Beam(),
    }


def figures(groups: list[tuple[list[str], np.ndarray]]) -> dict[str, float]:
    """Best, mean of the ten best distinct molecules, mean, diversity: means over groups."""
    best, top, mean = [], [], []
    for texts, rewards in groups:
        distinct = {canonical_smiles(t): r for t, r in zip(texts, rewards, strict=True)}
        ranked = sorted(distinct.values(), reverse=True)
        best.append(ranked[0])
        top.append(np.mean(ranked[:10]))
        mean.append(np.mean(rewards))
    spread = float(internal_diversity([t for t, _ in groups]).nanmean())
    every = [canonical_smiles(t) for texts, _ in groups for t in texts]
    return {
        "best": float(np.mean(best)),
        "best_error": float(np.std(best, ddof=1) / len(best) ** 0.5) if len(best) > 1 else float("nan"),
        "ten best": float(np.mean(top)),
        "mean": float(np.mean(mean)),
        "set": float(np.mean([len(t) for t, _ in groups])),
        "diversity": spread,
        "distinct": len(set(every)) / len(every),
    }


def timed(objective: str, tilt: float) -> dict[str, float]:
    """Shares of one SMC run in network, reward and the rest, on one thread."""
    model, reward, spent = load("molecules"), as_reward(objective), {"network": 0.0, "reward": 0.0}
    inner = model.module

    def clocked(x: torch.Tensor) -> torch.Tensor:
        start = time.process_time()
        out = inner(x)
        spent["network"] += time.process_time() - start
        return out

    def scored(smiles: list[str]) -> torch.Tensor:
        start = time.process_time()
        out = reward.score(smiles).values
        spent["reward"] += time.process_time() - start
        return out

    object.__setattr__(model, "module", clocked)
    start = time.process_time()
    sample(model, reward=scored, tilt=tilt, method=methods.SMC(particles=64), steps=20, seed=0)
    total = time.process_time() - start
    rest = total - sum(spent.values())
    return {"seconds": total, **{k: v / total for k, v in {**spent, "engine and decoding": rest}.items()}}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--base", help="unguided samples, a SMILES a line; without, no best-of-n")
    parser.add_argument("--out", required=True, help="file of the numbers")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--methods", nargs="+", help="some of the methods; all by default")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    base = Path(args.base).read_text().splitlines() if args.base else []
    found: dict[str, Any] = {"calls": args.calls, "shares": timed(*OBJECTIVES["QED x SA x logP in 1 to 3"])}
    print(json.dumps(found), flush=True)
    for title, (objective, tilt) in OBJECTIVES.items():
        rewards = as_reward(objective).score(base).values.numpy() if base else np.zeros(0)
        lines: dict[str, Any] = {}
        for name, size in (("best-of-n", args.calls), ("best-of-n, as many NFE", args.calls // LENGTH)):
            parts = [
                (base[i : i + size], rewards[i : i + size]) for i in range(0, len(base) - size + 1, size)
            ]
            if parts:
                spent = {"nfe": size * LENGTH, "reward calls": size, "groups": len(parts)}
                lines[name] = {**spent, **figures(parts)}
        for name, method in chosen(args.calls).items():
            if args.methods and name not in args.methods:
                continue
            start = time.process_time()
            result = sample(
                load("molecules"), reward=objective, tilt=tilt, method=method, groups=args.groups,
                seed=args.seed, budget=Budget(reward_calls=args.calls),
            )  # fmt: skip
            sets = list(zip(result.texts or [], result.rewards.numpy(), strict=True))
            spent = {"nfe": max(result.spent.nfe), "reward calls": max(result.spent.reward_calls)}
            lines[name] = {
                **spent,
                "groups": args.groups,
                "seconds": time.process_time() - start,
                **figures(sets),
            }
            print(title, name, json.dumps(lines[name]), flush=True)
            found[title] = lines
            Path(args.out).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
