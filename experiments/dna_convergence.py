"""How near weighted particles come to exactly known tilted laws of DNA, and what methods find.

    python -m itscale.experiments.dna_convergence --out runs/dna --figures docs/figures

Part one: SMC on uniform 8-mers, three landscapes, tilts 1, 2 and 4 on standardised binding; total variation
over 64 bins of reward that are equally likely under the exact tilted law, and over all 65,536 sequences as
the excess above what as many independent draws would show. Part two: mean reward and best reward of methods
against network evaluations, with the exact tilted mean and the best of all sequences.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from itscale.rewards.dna_binding import SITE, DnaBinding, standardised
from jaxtyping import Float64
from torch import Tensor

from itscale import methods
from itscale.budget import Budget
from itscale.errors import BudgetError
from itscale.models import Enumerable
from itscale.models.dna import load_dna_uniform
from itscale.result import Result
from itscale.sampling import sample
from itscale.values import Completions, Tabulated

FACTORS = ("EGR2", "FOXC1", "PAX3")
TILTS = (1.0, 2.0, 4.0)
BINS = 64


def reward_bins(rewards: Float64[Tensor, " sequences"], law: Float64[Tensor, " sequences"]) -> Tensor:
    """Bin of every sequence: in order of reward, equally likely under the law as far as atoms allow."""
    order = rewards.argsort(stable=True)
    middle = law[order].cumsum(0) - law[order] / 2
    bins = torch.empty(len(rewards), dtype=torch.int64)
    bins[order] = (middle * BINS).long().clamp(max=BINS - 1)
    return bins


def total_variation(a: Tensor, b: Tensor) -> float:
    """Half the sum of absolute differences of two laws."""
    return float((a - b).abs().sum() / 2)


def independent_draws(law: Float64[Tensor, " sequences"], draws: int) -> float:
    """Expected total variation between a law and the frequencies of independent draws from it, exactly.

    The mean absolute deviation of a binomial count is ``2 m C(n, m) p^m (1 - p)^(n - m + 1)`` with
    ``m = floor(n p) + 1`` (De Moivre).
    """
    p = law[law > 0]
    m = torch.floor(draws * p) + 1
    choose = math.lgamma(draws + 1) - torch.lgamma(m + 1) - torch.lgamma(draws - m + 1)
    # where m = n + 1 the count cannot pass its mean: p = 1
    log_mean = math.log(2) + m.log() + choose + m * p.log() + (draws - m + 1) * torch.log1p(-p)
    return float(log_mean.exp().sum() / draws / 2)


def errors(base: Enumerable, result: Result, rewards: Tensor, tilt: float) -> dict[str, list[float]]:
    """Per group, the two distances to the exact tilted law."""
    law, _ = base.tilted_law(rewards, tilt)
    bins = reward_bins(rewards, law)
    binned = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, law)
    expected = independent_draws(law, result.particles)
    found: dict[str, list[float]] = {"binned": [], "excess": []}
    for states, weights in zip(result.states, result.weights, strict=True):
        histogram = base.histogram(states, weights)
        of_bins = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, histogram)
        found["binned"].append(total_variation(of_bins, binned))
        found["excess"].append(total_variation(histogram, law) - expected)
    return found


def slope(sizes: list[int], values: list[float]) -> float:
    """Slope of log value against log size by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def convergence(sizes: list[int], groups: int, seed: int, is_exact: bool) -> list[dict[str, Any]]:
    """Part one, with values of four completions or with exact soft values."""
    base, rows = load_dna_uniform(), []
    for factor in FACTORS:
        rewards = standardised(factor)
        for tilt in TILTS:
            found = []
            value = Tabulated(base.soft_values(rewards, tilt)) if is_exact else Completions(samples=4)
            for n in sizes:
                result = sample(
                    base, reward=DnaBinding(factor), tilt=tilt, method=methods.SMC(particles=n),
                    value=value, groups=groups, seed=seed,
                )  # fmt: skip
                error = errors(base, result, rewards, tilt)
                found.append({k: float(np.mean(v)) for k, v in error.items()})
            row = {"factor": factor, "tilt": tilt, "is_exact": is_exact, "sizes": sizes}
            row |= {k: [f[k] for f in found] for k in ("binned", "excess")}
            row["slope"] = slope(sizes[-3:], row["binned"][-3:])
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def curves(factor: str, tilt: float, budgets: list[int], groups: int, seed: int) -> dict[str, Any]:
    """Part two; budgets are network evaluations."""
    base, rewards = load_dna_uniform(), standardised(factor)
    law, _ = base.tilted_law(rewards, tilt)
    chosen = {
        "best-of-n": methods.BestOfN(),
        "smc": methods.SMC(),
        "nested-smc": methods.NestedSMC(children=4),
        "svdd": methods.SVDD(particles=1, children=2),
        "svdd, argmax": methods.SVDD(particles=1, children=2, selection="argmax"),
        "beam": methods.Beam(),
    }
    exact = {"tilted mean": float((law * rewards).sum()), "optimum": float(rewards.max())}
    lines: dict[str, list[dict[str, float]]] = {}
    for name, method in chosen.items():
        for nfe in budgets:
            if isinstance(method, methods.SVDD):  # one chain, and the budget buys children
                method = replace(method, children=max(1, (nfe - 1) // (SITE - 1)))
            try:
                result = sample(
                    base, reward=DnaBinding(factor), tilt=tilt, method=method, value=Completions(samples=4),
                    groups=groups, seed=seed, budget=Budget(nfe=nfe),
                )  # fmt: skip
            except BudgetError:
                continue
            best = result.rewards.max(dim=1).values
            mean = (result.weights * result.rewards).sum(dim=1)
            spread = groups**0.5
            lines.setdefault(name, []).append(
                {
                    "nfe": max(result.spent.nfe),
                    "reward_calls": max(result.spent.reward_calls),
                    "mean": float(mean.mean()),
                    "mean_error": float(mean.std() / spread),
                    "best": float(best.mean()),
                    "best_error": float(best.std() / spread),
                }
            )
        print(name, json.dumps(lines.get(name)), flush=True)
    return {"factor": factor, "tilt": tilt, "exact": exact, "lines": lines}


def draw(convergences: list[dict[str, Any]], found: dict[str, Any], folder: Path) -> None:
    """Both pictures."""
    from itscale.runs.plots import new_figure, title

    figure, axes = new_figure(11, 3.6, 1, 3, sharey=True)
    for axis, factor in zip(axes[0], FACTORS, strict=True):
        for colour, row in zip(
            ("#0072B2", "#D55E00", "#009E73"), [r for r in convergences if r["factor"] == factor], strict=True
        ):
            label = f"tilt {row['tilt']:g}, slope {row['slope']:.2f}"
            axis.loglog(row["sizes"], row["binned"], "o-", color=colour, label=label)
        sizes = np.array(convergences[0]["sizes"], dtype=float)
        axis.loglog(sizes, 2.5 * sizes**-0.5, "--", color="#777777", label="slope -1/2")
        axis.set_xlabel("particles")
        axis.legend(fontsize=8, frameon=False)
        title(axis, factor)
    axes[0][0].set_ylabel("total variation, 64 bins of reward")
    figure.savefig(folder / "dna-convergence.png", dpi=110)
    figure, axes = new_figure(10, 3.6, 1, 2)
    for axis, key, text in zip(
        axes[0], ("mean", "best"), ("weighted mean of the set", "best of the set"), strict=True
    ):
        for name, line in found["lines"].items():
            x, y, e = ([p[k] for p in line] for k in ("nfe", key, f"{key}_error"))
            axis.errorbar(x, y, e, marker="o", label=name)
        axis.set_xscale("log")
        level = found["exact"]["tilted mean" if key == "mean" else "optimum"]
        axis.axhline(level, ls="--", color="black", label="exact")
        axis.set_xlabel("network evaluations (NFE)")
        title(axis, text)
    axes[0][0].set_ylabel("binding, standard deviations")
    axes[0][1].legend(fontsize=8, frameon=False)
    figure.savefig(folder / "dna-methods.png", dpi=110)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--out", required=True, help="folder of the numbers")
    parser.add_argument("--figures", help="folder of the pictures")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024, 4096, 16384, 65536])
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--exact", action="store_true", help="steer by exact soft values in part one")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = convergence(args.sizes, args.groups, args.seed, args.exact)
    found = curves("PAX3", 2.0, args.budgets, 8 * args.groups, args.seed)
    (folder / "dna.json").write_text(json.dumps({"convergence": rows, "curves": found}, indent=1))
    if args.figures:
        draw(rows, found, Path(args.figures))


if __name__ == "__main__":
    main()
