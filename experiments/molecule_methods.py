"""Molecule design at equal numbers of reward calls: methods on several objectives, and where the time goes.

    python -m itscale.experiments.molecule_methods --base runs/zinc-samples.smi --out runs/methods.json
    python -m itscale.experiments.molecule_methods --out runs/methods.json --calls 10000 --groups 1 \
        --methods smc nested-smc beam "svdd, argmax"

Best-of-N is the best of the unguided samples that ``evaluate_molecules.py`` left, in as many groups as they
make. Every other method runs with a budget of reward calls; network evaluations are stated beside. What is in
``--out`` already is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from itscale.rewards.molecule import canonical_smiles

from itscale import methods
from itscale.budget import Budget
from itscale.models.loading import load
from itscale.runs.molecules import internal_diversity
from itscale.sampling import fit_value, sample
from itscale.scoring import as_reward
from itscale.values import Completions, Learned

REFERENCE = "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F"  # celecoxib
OBJECTIVES = {
    "QED": ("qed", 50.0),
    "QED x SA x logP in 1 to 3": ("qed * synthesizability * logp(low=1, high=3)", 30.0),
    "QED x SA x similarity": (f"qed * synthesizability * similarity(reference='{REFERENCE}')", 60.0),
}
LENGTH = 60
LATE = (24, LENGTH - 1)
"""Levels at which completions are worth scoring: of almost empty sequences they say little."""


class Run(NamedTuple):
    """A method that spends a budget of reward calls, and how states are scored on the way."""

    method: Any
    value: Any = "denoised"


def chosen(calls: int, value: Any = None) -> dict[str, Run]:
    """Methods with the numbers that spend a budget of reward calls; ``value`` is a learned one."""
    levels = LENGTH - LATE[0]
    found = {
        "smc": Run(methods.SMC(score_window=LATE)),
        "smc, from the first level": Run(methods.SMC()),
        "smc, four completions": Run(methods.SMC(score_window=LATE), Completions(samples=4)),
        "nested-smc": Run(methods.NestedSMC(children=4, score_window=LATE)),
        "beam": Run(methods.Beam()),
        "svdd, soft": Run(methods.SVDD(particles=1, children=calls // levels, score_window=LATE)),
        "svdd, argmax": Run(
            methods.SVDD(particles=1, children=calls // levels, score_window=LATE, selection="argmax")
        ),
    }
    if value is not None:  # reward calls are made at the end alone
        found["svdd, learned value"] = Run(methods.SVDD(particles=16, children=10), value)
        found["smc, learned value"] = Run(methods.SMC(particles=16), value)
    return found


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


def learned(objective: str, tilt: float, folder: Path, samples: int) -> Any:
    """A value fitted to unguided samples of 20 steps; the fit costs ``20 samples`` NFE once."""
    file = folder / f"value-{hashlib.sha256(objective.encode()).hexdigest()[:8]}.pt"
    if file.exists():
        return Learned(str(file))
    value = fit_value(
        load("molecules"), objective, file, samples=samples, steps=20, tilt=0.0, updates=500, width=64, seed=1
    )
    print(objective, json.dumps(value.facts), flush=True)
    return value


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--base", help="unguided samples, a SMILES a line; without, no best-of-n")
    parser.add_argument("--out", required=True, help="file of the numbers")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--methods", nargs="+", help="some of the methods; all by default")
    parser.add_argument("--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--fit", type=int, default=0, help="fit values to so many samples, and use them")
    parser.add_argument("--shares", action="store_true", help="only time network, reward and engine")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(args.out)
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}

    def keep(*place: str, line: Any) -> None:
        where = found
        for key in place[:-1]:
            where = where.setdefault(key, {})
        where[place[-1]] = line
        print(*place, json.dumps(line), flush=True)
        out.write_text(json.dumps(found, indent=1))

    if args.shares:
        keep("shares", line=timed(*OBJECTIVES["QED x SA x logP in 1 to 3"]))
        return
    base = Path(args.base).read_text().splitlines() if args.base else []
    for title in args.objectives:
        objective, tilt = OBJECTIVES[title]
        rewards = as_reward(objective).score(base).values.numpy() if base else np.zeros(0)
        for size in sorted({args.calls // LENGTH, args.calls, 10}):
            parts = [
                (base[i : i + size], rewards[i : i + size]) for i in range(0, len(base) - size + 1, size)
            ]
            if parts:
                spent = {"nfe": size * LENGTH, "reward calls": size, "groups": len(parts)}
                keep(title, f"{args.calls} calls", f"best-of-{size}", line={**spent, **figures(parts)})
        value = learned(objective, tilt, out.parent, args.fit) if args.fit else None
        for name, (method, how) in chosen(args.calls, value).items():
            known = found.get(title, {}).get(f"{args.calls} calls", {})
            if (args.methods and name not in args.methods) or name in known:
                continue
            start = time.process_time()
            is_fixed = getattr(method, "particles", None) is not None and "learned" in name
            result = sample(
                load("molecules"), reward=objective, tilt=tilt, method=method, value=how, groups=args.groups,
                seed=args.seed, budget=None if is_fixed else Budget(reward_calls=args.calls),
            )  # fmt: skip
            sets = list(zip(result.texts or [], result.rewards.numpy(), strict=True))
            line = {
                "nfe": max(result.spent.nfe),
                "reward calls": max(result.spent.reward_calls),
                "groups": args.groups,
                "seconds": time.process_time() - start,
                "answers": [float(r) for r in result.rewards.amax(dim=1)],
                **figures(sets),
            }
            keep(title, f"{args.calls} calls", name, line=line)


if __name__ == "__main__":
    main()
