"""Methods at equal cost: what each makes of the same number of network evaluations.

    python -m itscale.experiments.equal_cost mixture --out runs/equal-cost
    python -m itscale.experiments.equal_cost digits --out runs/equal-cost
    python -m itscale.experiments.equal_cost scenes --groups 30 --out runs/equal-cost
    python -m itscale.experiments.equal_cost report --out runs/equal-cost --figures docs/figures

The first three write one JSON line per (process, reward, method, budget) and go on where they stopped; the
last turns the lines into tables and a figure. Every number is over independent groups that start from the
same seeds. "Answer" is the best sample of a group; methods with a target are run as samplers (tilt times the
reward's standard deviation is 2) and as searches (16). Gradients through the network count as two more rows.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from itscale.experiments.problems import PROBLEMS, Problem

from itscale.budget import Budget
from itscale.errors import BudgetError, ConfigError
from itscale.methods import (
    CTS,
    DAS,
    DNO,
    DTS,
    RBF,
    SMC,
    SVDD,
    TDS,
    Beam,
    BestOfN,
    CoDe,
    DTSStar,
    EpsilonGreedy,
    Funnel,
    LiDAR,
    ParticleGibbs,
    PathSearch,
    PsiSMC,
    ReNO,
    VASRMax,
    WasteFreeSMC,
    ZeroOrderSearch,
)
from itscale.process import ODE, SDE
from itscale.result import Result
from itscale.runs.density import density
from itscale.sampling import sample
from itscale.scoring import as_reward

STEPS = 20
MILD, SHARP = 2.0, 16.0  # tilt times the standard deviation of the reward


@dataclass(frozen=True)
class Entrant:
    """A method as it takes part; ``tilt`` is in standard deviations of the reward."""

    name: str
    method: Any
    tilt: float = SHARP
    smooth_only: bool = False  # another one without a gradient


ENTRANTS = (
    Entrant("best-of-n", BestOfN()),
    Entrant("zero-order", ZeroOrderSearch()),
    Entrant("search over paths", PathSearch()),
    Entrant("epsilon-greedy", EpsilonGreedy(rounds=2)),
    Entrant("reno", ReNO()),
    Entrant("dno", DNO()),
    Entrant("code", CoDe(children=4, block=5)),
    Entrant("svdd", SVDD(children=4, selection="argmax")),
    Entrant("svdd, rollover", SVDD(children=4, selection="argmax", rollover="parent")),
    Entrant("beam", Beam(children=4)),
    Entrant("beam, narrowing", Beam(children=4, schedule="narrowing")),
    Entrant("rbf", RBF()),
    Entrant("dts", DTS(), MILD),
    Entrant("dts-star", DTSStar()),
    Entrant("smc, mild", SMC(), MILD),
    Entrant("smc, sharp", SMC()),
    Entrant("smc from half way, sharp", SMC(score_window=(STEPS // 2, STEPS - 1))),
    Entrant("funnel, sharp", Funnel()),
    Entrant("vasr-max, sharp", VASRMax()),
    Entrant("psi, sharp", PsiSMC(burn_in=5)),
    Entrant("waste-free, sharp", WasteFreeSMC()),
    Entrant("gibbs, sharp", ParticleGibbs(sweeps=4, burn_in=1)),
    Entrant("cts, mild", CTS(), MILD),
    Entrant("cts, sharp", CTS()),
    Entrant("cts without gradients, sharp", CTS(drift="population"), smooth_only=True),
    Entrant("lidar, sharp", LiDAR()),
    Entrant("das, sharp", DAS()),
    Entrant("tds, mild", TDS(), MILD),
)
PROCESSES = {"ode": ODE(), "linear": SDE(), "vp": SDE(interpolant="vp")}
GRADIENTS = (DAS, TDS, ReNO, DNO)


def run(problem: Problem, process: str, entrant: Entrant, budget: int, spread: float) -> Result:
    """Run one method; a gradient through the network leaves a third of the particles."""
    limit = Budget(model_rows=budget) if isinstance(entrant.method, GRADIENTS) else Budget(nfe=budget)
    return sample(
        problem.model,
        reward=problem.reward,
        held_out=problem.held_out,
        method=entrant.method,
        condition=problem.conditions,
        groups=len(problem.conditions),
        process=PROCESSES[process],
        steps=STEPS,
        tilt=entrant.tilt / spread,
        budget=limit,
        seed=1,
    )


def measure(problem: Problem, result: Result) -> dict[str, Any]:
    """Return figures of the answers: means with standard errors over groups."""
    best = result.best()
    answers = best.samples[:, 0]
    column = best.index[:, :1]
    held_out = result.held_out.gather(1, column)[:, 0] if result.held_out is not None else None
    states = torch.stack([s[i] for s, i in zip(result.states, column[:, 0].tolist(), strict=True)])
    typical = density(problem.model, states, problem.conditions)
    weights = torch.softmax(result.log_weights, 1)
    flat = answers.flatten(1).double()
    verdict = None
    if problem.check is not None:
        verdict = problem.check.score(answers, {"conditions": problem.conditions}).values
    figures = {
        "answer": best.rewards[:, 0],
        "verdict": verdict,
        "held_out": held_out,
        "density": typical,
        "set": (weights * result.rewards).sum(1),
    }
    row: dict[str, Any] = {}
    for name, values in figures.items():
        if values is not None:
            values = values.double()
            row[name] = float(values.mean())
            row[f"{name}_error"] = float(values.std() / len(values) ** 0.5)
    spent = result.spent
    return {
        **row,
        "diversity": float(torch.pdist(flat).mean()),
        "nfe": max(spent.nfe),
        "reward_calls": max(spent.reward_calls),
        "backward_rows": spent.backward_rows // len(problem.conditions),
        "pilot_nfe": result.pilot.total("nfe") if result.pilot else 0,
        "seconds": round(spent.seconds, 3),
        "groups": len(problem.conditions),
        "particles": result.particles,
    }


def study(
    part: str,
    budgets: list[int],
    groups: int,
    processes: list[str],
    out: Path,
    rewards: list[str] | None = None,
    methods: list[str] | None = None,
) -> None:
    """Run what is not on disk yet."""
    file = out / f"{part}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    done = {row["key"] for row in read(file)}
    entrants = [e for e in ENTRANTS if methods is None or e.name in methods]
    for problem in PROBLEMS[part](groups):
        if rewards is not None and problem.name not in rewards:
            continue
        spread = problem.deviation(STEPS)
        for process in processes:
            for entrant in entrants:
                if entrant.smooth_only and not as_reward(problem.reward).gradient_ready:
                    continue
                for budget in budgets:
                    key = f"{problem.name}|{process}|{entrant.name}|{budget}"
                    if key in done:
                        continue
                    started = time.process_time()
                    try:
                        result = run(problem, process, entrant, budget, spread)
                    except BudgetError as error:
                        print(f"{key}: {error}")
                        continue
                    except ConfigError as error:  # a gradient or a noise that is not there
                        print(f"{key}: {error}")
                        break
                    row = {"key": key, "reward": problem.name, "process": process, "method": entrant.name}
                    cpu = round(time.process_time() - started, 3)
                    row |= {"budget": budget, "tilt": entrant.tilt, "cpu_seconds": cpu}
                    row |= measure(problem, result)
                    with file.open("a", encoding="utf-8") as handle:
                        handle.write(json.dumps(row) + "\n")
                    print(
                        f"{key}: {row['answer']:.3f} +- {row['answer_error']:.3f}, {row['seconds']} s",
                        flush=True,
                    )


def read(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; a torn last line is left out."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def table(rows: list[dict[str, Any]], budget: int, beside: str, processes: tuple[str, ...]) -> str:
    """Answers at one budget: methods down, rewards and paths across; the best of a column in bold.

    ``beside`` is the figure in brackets: ``"density"``, ``"held_out"`` or ``"verdict"``.
    """
    columns = sorted({(r["reward"], r["process"]) for r in rows if r["process"] in processes})
    here = {(r["method"], r["reward"], r["process"]): r for r in rows if r["budget"] == budget}
    best = {c: max((r["answer"] for k, r in here.items() if k[1:] == c), default=0.0) for c in columns}
    lines = [
        "| method | " + " | ".join(f"{reward}, {process}" for reward, process in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for entrant in ENTRANTS:
        cells = []
        for column in columns:
            row = here.get((entrant.name, *column))
            if row is None:
                cells.append("-")
                continue
            text = f"{row['answer']:.2f} ± {row['answer_error']:.2f}"
            text = f"**{text}**" if row["answer"] == best[column] else text
            cells.append(f"{text} ({row[beside]:.3g})")
        if any(cell != "-" for cell in cells):
            lines.append(f"| {entrant.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def satisfaction(rows: list[dict[str, Any]], reward: str, budgets: list[int]) -> str:
    """Share of prompts met by the answers (in brackets by the held-out judge): methods down, paths across."""
    columns = [(process, budget) for process in PROCESSES for budget in budgets]
    here = {(r["method"], r["process"], r["budget"]): r for r in rows if r["reward"] == reward}
    lines = [
        "| method | " + " | ".join(f"{process}, {budget}" for process, budget in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for entrant in ENTRANTS:
        found = [here.get((entrant.name, *column)) for column in columns]
        if any(found):
            cells = [f"{r['verdict']:.2f} ({r['held_out']:.2f})" if r else "-" for r in found]
            lines.append(f"| {entrant.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(parts: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Answers of some methods against the budget on the linear path, one panel a reward."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [
        (part, reward) for part, rows in parts.items() for reward in dict.fromkeys(r["reward"] for r in rows)
    ]
    shown = (
        "best-of-n",
        "svdd",
        "beam, narrowing",
        "rbf",
        "dts-star",
        "smc, sharp",
        "cts, sharp",
        "das, sharp",
    )
    fig, axes = plt.subplots(2, 3, figsize=(12, 7.5), layout="constrained")
    for axis, (part, reward) in zip(axes.flat, panels, strict=False):
        for k, name in enumerate(shown):
            rows = [
                r
                for r in parts[part]
                if r["reward"] == reward and r["method"] == name and r["process"] == "linear"
            ]
            rows.sort(key=lambda r: r["budget"])
            axis.errorbar(
                [r["budget"] for r in rows],
                [r["answer"] for r in rows],
                [r["answer_error"] for r in rows],
                label=name,
                color=f"C{k}",
                marker="o",
                markersize=3,
            )
        axis.set_xscale("log")
        axis.set_title(f"{part}: {reward}")
        axis.set_xlabel("network evaluations per group")
        axis.set_ylabel("reward of the answer")
    fig.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    fig.savefig(path, dpi=110)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("part", choices=[*PROBLEMS, "report"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON lines")
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--budgets", type=int, nargs="+", help="network evaluations per group")
    parser.add_argument("--processes", nargs="+", choices=PROCESSES, default=list(PROCESSES))
    parser.add_argument("--rewards", nargs="+", help="only these")
    parser.add_argument("--methods", nargs="+", choices=[e.name for e in ENTRANTS], help="only these")
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.part == "report":
        parts = {part: read(args.out / f"{part}.jsonl") for part in PROBLEMS}
        for part in ("mixture", "digits"):
            rows, beside = parts[part], "density" if part == "mixture" else "held_out"
            for budget in sorted({r["budget"] for r in rows}):
                for processes in (("linear", "vp"), ("ode",)):
                    print(f"\n{part}, {budget}, {processes}\n\n{table(rows, budget, beside, processes)}")
        for reward in dict.fromkeys(r["reward"] for r in parts["scenes"]):
            budgets = sorted({r["budget"] for r in parts["scenes"] if r["reward"] == reward})
            print(f"\nscenes, {reward}\n\n{satisfaction(parts['scenes'], reward, budgets)}")
        figure({part: parts[part] for part in ("mixture", "digits")}, args.figures / "equal-cost.png")
        return
    usual = [50, 100, 200, 500, 1000, 2000] if args.part == "mixture" else [100, 500, 2000]
    study(args.part, args.budgets or usual, args.groups, args.processes, args.out, args.rewards, args.methods)


if __name__ == "__main__":
    main()
