r"""Measure solvers on the digits model: distance to held-out digits against network evaluations.

    python -m itscale.experiments.solver_study --data mnist10k.npz --results solvers-digits.jsonl \
        --figure docs/figures/solvers-digits.png

Every solver gets the same evaluations per sample: as many steps as they pay for, and the number spent is
recorded. Within a seed all solvers start from the same noises. One line of JSON is written per solver, budget
and seed; a line that is there already, for the same weights and number of samples, is not computed again. The
tables go to stdout.

The distance is Frechet's in the features of the held-out judge, between the samples of one seed and held-out
digits, as many of each digit on both sides: a share of digits that differs by a percent or two costs more
than most solvers do. It has a floor that falls with the number of samples: the line "held-out digits" is what
that many of these digits score against the rest of them. For the ODE there
is a second figure, without a floor: how far samples lie from those that a fine grid makes of the same
noises.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from itscale.experiments.evaluate_digits import frechet
from itscale.experiments.train_digits import Digits, split
from torch import Tensor, nn

from itscale.errors import ConfigError
from itscale.models.bundled import load_digits
from itscale.networks.classifiers import load_classifier
from itscale.pools import Local
from itscale.preparation import prepare
from itscale.process import ODE, SDE
from itscale.result import Result
from itscale.sampling import sample
from itscale.solvers import Interval, Restart, Solver, get_solver

NFE = (5, 8, 10, 15, 20, 30, 50, 100)
ODE_SOLVERS = ("ddim", "heun", "dpm-2", "dpm++2m", "dpm++3m", "unipc", "deis", "ipndm")
NOISY_SOLVERS = ("ancestral", "2m-sde", "3m-sde", "sde-heun", "restart")
REAL = "held-out digits"
BASELINE = "dpm++2m"  # the default solver of the ODE
REFERENCE = ("dpm-3s", 200)  # solver and steps of the samples taken for exact
REFERENCE_PER_DIGIT = 10

Row: TypeAlias = dict[str, Any]


def solver_for(name: str, nfe: int) -> Solver:
    """The solver of this name; for ``restart`` about half of the evaluations go into its cycles."""
    if name != "restart":
        return get_solver(name)
    return Restart((Interval(kappa_min=0.3, kappa_max=1.0, points=3, repeats=max(1, nfe // 8)),))


def view_for(solver: Solver) -> ODE | SDE:
    return SDE() if solver.is_stochastic else ODE()


def most_steps(model: Any, solver: Solver, nfe: int) -> tuple[int, int] | None:
    """Return the most steps that ``nfe`` evaluations pay for, and what they cost; None if there are none."""
    for steps in range(nfe, 0, -1):
        try:
            setup = prepare(model, n=1, steps=steps, solver=solver, process=view_for(solver))
        except ConfigError:  # too few steps for this solver
            continue
        if setup.cost.trajectory() <= nfe:
            return steps, setup.cost.trajectory()
    return None


def features(judge: nn.Module, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.cat([judge.features(part) for part in images.split(500)]).double().numpy()


def draw_samples(model: Any, solver: Solver, steps: int, seed: int, n: int, pool: Local) -> Result:
    """``n`` samples of every digit, one digit a group."""
    return sample(
        model,
        n=n,
        groups=10,
        condition=list(range(10)),
        solver=solver,
        process=view_for(solver),
        steps=steps,
        seed=seed,
        pool=pool,
    )


@functools.cache
def exact(model: Any, seed: int, pool: Local) -> Tensor:
    """States on a fine grid from the first noises of every digit."""
    name, steps = REFERENCE
    return draw_samples(model, get_solver(name), steps, seed, REFERENCE_PER_DIGIT, pool).states.cpu()


def measure(
    model: Any, judge: nn.Module, real: np.ndarray, name: str, nfe: int, seed: int, n: int, pool: Local
) -> Row:
    """One line: ``n`` samples of every digit by one solver."""
    solver = solver_for(name, nfe)
    found = most_steps(model, solver, nfe)
    line: Row = {"solver": name, "nfe": nfe, "seed": seed}
    if found is None:
        return {**line, "spent": None, "frechet": None}
    steps, spent = found
    started = time.perf_counter()
    result = draw_samples(model, solver, steps, seed, n, pool)
    seconds = time.perf_counter() - started
    assert result.spent.nfe == [n * spent] * 10
    images = result.samples.flatten(0, 1).cpu()
    with torch.no_grad():
        read = torch.cat([judge(part).argmax(1) for part in images.split(500)])
    asked = torch.arange(10).repeat_interleave(n)
    error = None
    if name in ODE_SOLVERS:
        true = exact(model, seed, pool)
        error = (result.states[:, : true.shape[1]].cpu() - true).square().mean().sqrt().item()
    return {
        **line,
        "steps": steps,
        "spent": spent,
        "frechet": frechet(features(judge, images), real),
        "accuracy": (read == asked).float().mean().item(),
        "error": error,
        "seconds": round(seconds, 2),
    }


def balanced(judge: nn.Module, held_out: Digits) -> np.ndarray:
    """Features of as many held-out digits of each kind as there are of the rarest, (10, each, features)."""
    found, kinds = features(judge, held_out.unit()), [held_out.labels.numpy() == k for k in range(10)]
    each = min(kind.sum() for kind in kinds)
    return np.stack([found[kind][:each] for kind in kinds])


def real_line(real: np.ndarray, seed: int, n: int) -> Row:
    """The same distance for ``n`` held-out digits of each kind (half of them at most) against the others."""
    n = min(n, real.shape[1] // 2)
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(real.shape[1]), (10, 1)), axis=1)
    mixed = np.take_along_axis(real, order[:, :, None], axis=1)
    distance = frechet(np.concatenate(mixed[:, :n]), np.concatenate(mixed[:, n:]))
    return {"solver": REAL, "nfe": 0, "seed": seed, "spent": 0, "frechet": distance}


def read_lines(path: Path, facts: Row) -> dict[tuple[str, int, int], Row]:
    """Finished lines that were made under the same facts; a torn last line does not count."""
    found: dict[tuple[str, int, int], Row] = {}
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(text)
        except json.JSONDecodeError:
            continue
        if all(row.get(key) == value for key, value in facts.items()):
            found[row["solver"], row["nfe"], row["seed"]] = row
    return found


def mean_and_error(values: Iterable[float]) -> tuple[float, float]:
    """Mean over seeds and its standard error, 0 for a single one."""
    listed = list(values)
    error = statistics.stdev(listed) / len(listed) ** 0.5 if len(listed) > 1 else 0.0
    return statistics.fmean(listed), error


def curves(rows: Iterable[Row], figure: str = "frechet") -> dict[str, dict[int, tuple[int, float, float]]]:
    """By solver and budget: evaluations spent, mean of a figure and standard error over the seeds."""
    grouped: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        if row.get(figure) is not None:
            grouped.setdefault(row["solver"], {}).setdefault(row["nfe"], []).append(row)
    return {
        solver: {
            nfe: (seeds[0]["spent"], *mean_and_error(r[figure] for r in seeds))
            for nfe, seeds in sorted(by_nfe.items())
        }
        for solver, by_nfe in grouped.items()
    }


def table(
    rows: Iterable[Row], solvers: Iterable[str], budgets: Iterable[int], figure: str = "frechet"
) -> str:
    """Markdown; a number in square brackets is what was spent where steps do not fill the budget."""
    found, budgets = curves(rows, figure), list(budgets)
    lines = ["| solver | " + " | ".join(map(str, budgets)) + " |", "| --- |" + " --- |" * len(budgets)]
    for solver in (s for s in solvers if s in found):
        cells = [_cell(nfe, found[solver].get(nfe)) for nfe in budgets]
        lines.append(f"| `{solver}` | " + " | ".join(cells) + " |")
    if REAL in found:
        _, mean, error = found[REAL][0]
        lines.append(f"\n{REAL.capitalize()}: {mean:.3f} ± {error:.3f}.")
    return "\n".join(lines)


def differences(rows: Iterable[Row], baseline: str) -> list[Row]:
    """Distances less those of a baseline at the same budget and seed: same noises, same labels."""
    rows = list(rows)
    base = {(row["nfe"], row["seed"]): row["frechet"] for row in rows if row["solver"] == baseline}
    return [
        {**row, "difference": row["frechet"] - base[row["nfe"], row["seed"]]}
        for row in rows
        if row["frechet"] is not None and row["solver"] != baseline and (row["nfe"], row["seed"]) in base
    ]


def _cell(nfe: int, point: tuple[int, float, float] | None) -> str:
    if point is None:
        return "-"
    spent, mean, error = point
    return f"{mean:.3f} ± {error:.3f}" + ("" if spent == nfe else f" [{spent}]")


def draw(rows: Iterable[Row], path: Path) -> None:
    """Frechet distances of the ODE and with noise, and the error of the ODE, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    rows = list(rows)
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.8), layout="constrained")
    axes[1].sharey(axes[0])
    panels = (
        ("the ODE: distance to held-out digits", ODE_SOLVERS, "frechet"),
        ("with noise (and ddim): the same", ("ddim", *NOISY_SOLVERS), "frechet"),
        ("the ODE: distance to its exact samples", ODE_SOLVERS, "error"),
    )
    for axis, (title, names, shown) in zip(axes, panels, strict=True):
        found = curves(rows, shown)
        for i, name in enumerate(n for n in names if n in found):
            spent, mean, error = (np.array(c) for c in zip(*found[name].values(), strict=True))
            style = {"color": "0.5"} if name == "ddim" else {"color": f"C{i - 1}"}
            style |= {"marker": "oosD^vPX*"[i], "markersize": 4.5, "linewidth": 1.3, "capsize": 2}
            axis.errorbar(spent * 1.012 ** (i - len(names) / 2), mean, yerr=error, label=name, **style)
        if REAL in found:
            _, mean, error = found[REAL][0]
            axis.axhspan(mean - error, mean + error, color="0.85", zorder=0)
            axis.axhline(mean, color="0.6", linewidth=1, linestyle="--", label=REAL, zorder=1)
        axis.set(xscale="log", yscale="log", title=title, xlabel="network evaluations per sample")
        ticks = (0.002, 0.005, 0.01, 0.02, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20, 50)
        for which, at in ((axis.xaxis, NFE), (axis.yaxis, ticks)):
            which.set_major_locator(FixedLocator(at))
            which.set_minor_locator(NullLocator())
            which.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, frameon=False)
    axes[0].set_ylim(0.06, 0.8)  # sde-heun with few steps lies far above
    axes[0].set_ylabel("Frechet distance, judge's features")
    axes[2].set_ylabel("root mean square difference, pixels in [-1, 1]")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def digest() -> str:
    """A short hash of the weights, so that lines of other weights are not taken for these."""
    file = resources.files("itscale.networks") / "weights" / "digits.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def cells(args: argparse.Namespace) -> Iterator[tuple[str, int, int]]:
    """From cheap to dear, so that an interrupted study is whole up to where it came."""
    for nfe in (0, *args.nfe):
        for seed in range(args.seeds):
            for name in [REAL] if nfe == 0 else args.solvers:
                yield name, nfe, seed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="npz with images uint8 (10000, 28, 28) and labels")
    parser.add_argument("--results", type=Path, required=True, help="lines of JSON, appended to")
    parser.add_argument("--figure", type=Path, help="where to save the plot")
    parser.add_argument("--samples", type=int, default=300, help="per solver, budget and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--nfe", type=int, nargs="+", default=list(NFE))
    parser.add_argument("--solvers", nargs="+", default=[*ODE_SOLVERS, *NOISY_SOLVERS])
    parser.add_argument("--microbatch", type=int, help="rows at once; on an accelerator take 4096")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    if args.samples < 10 or args.samples % 10:
        parser.error("--samples must be a multiple of 10: as many of every digit")
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # distances to exact samples go down to a thousandth
    pool = Local(microbatch=args.microbatch)
    model, judge = load_digits(), load_classifier("digit-judge")
    model.network.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    real = balanced(judge, split(args.data)[1])
    n, facts = args.samples // 10, {"samples": args.samples, "weights": digest(), "real": real[..., 0].size}
    done = read_lines(args.results, facts)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    with args.results.open("a") as file:
        for name, nfe, seed in cells(args):
            if (name, nfe, seed) in done:
                continue
            if name == REAL:
                row = real_line(real, seed, n)
            else:
                row = measure(model, judge, np.concatenate(real), name, nfe, seed, n, pool)
            done[name, nfe, seed] = {**row, **facts}
            file.write(json.dumps(done[name, nfe, seed]) + "\n")
            file.flush()
    print(table(done.values(), args.solvers, args.nfe))
    print(f"\nDifference to {BASELINE}, by seeds:\n")
    print(table(differences(done.values(), BASELINE), args.solvers, args.nfe, "difference"))
    print("\nDistance to the samples of a fine grid from the same noises:\n")
    print(table(done.values(), args.solvers, args.nfe, "error"))
    if args.figure:
        draw(done.values(), args.figure)


if __name__ == "__main__":
    main()
