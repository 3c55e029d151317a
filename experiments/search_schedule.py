"""Search for a solver schedule: levels first, then the order and the prediction of every step.

    python -m itscale.experiments.search_schedule --model digits --moves 5 --out digits-5.json

A score is the root-mean-square distance of end points to those of a fine teacher from the same starts:
paired, so free of Monte-Carlo noise. It repairs what few steps lose and nothing that the model gets wrong;
report a distance between laws afterwards. The winner is kept only if it beats every hand-made schedule on
fresh starts.

Reference:
    Liu et al. (2023), "A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models",
    arXiv:2312.07243, Algorithm 1. Departures: the score is not FID, and no predictor ranks candidates (it
    could not be had, and an evaluation here takes milliseconds). The search over levels alone is that of Li
    et al. (2023), "AutoDiffusion", arXiv:2309.10438, on any levels in place of whole labels.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.grids import validate_grid
from itscale.models import load
from itscale.models.base import Model
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import Choice, Solver, SolverSchedule, UniPC

PARENTS, CROSSOVER, MUTATION = 5, 0.3, 0.3
ORDERS, ORDER_SHARES = (1, 2, 3, 4), (0.2, 0.4, 0.3, 0.1)
GAP_SHARE, RELAX_STEP = 0.4, 0.03


@dataclass(frozen=True, eq=False)
class Problem:
    """Paired starts and the ends that a teacher finds, between two noise-to-signal ratios.

    Attributes:
        x: starts at the first ratio, (rows, *event); ends: the teacher's, at the last ratio.
    """

    process: ContinuousProcess
    kappas: tuple[float, float]
    condition: Tensor | None
    x: Tensor
    ends: Tensor

    @classmethod
    def of(
        cls,
        model: Model,
        kappas: tuple[float, float],
        starts: int,
        seed: int,
        teacher: Solver | None = None,
        teacher_moves: int = 400,
        dtype: torch.dtype = torch.float32,
    ) -> Problem:
        """Draw starts and run the teacher (UniPC of order 3 unless given) on levels equal in log-SNR."""
        process = ContinuousProcess.of(model, ODE())
        if not 0 < kappas[1] < kappas[0] < math.inf:
            raise ConfigError(f"kappas must be (high, low), positive and finite, got {kappas}")
        start = process.interpolant.sigma(process.interpolant.t_of_kappa(kappas[0]))
        generator = torch.Generator().manual_seed(seed)
        x = float(start) * torch.randn(starts, *model.event_shape, generator=generator, dtype=dtype)
        encoding = model.encode([None])
        condition = None if encoding is None else encoding.expand(starts, *encoding.shape[1:])
        problem = cls(process, kappas, condition, x, x)
        fine = levels("log-snr", teacher_moves, kappas)
        return replace(problem, ends=problem.end(teacher or UniPC(), fine))

    def end(self, solver: Solver, kappas: tuple[float, ...]) -> Tensor:
        """Run a solver without noise and without looks inside its steps."""
        path, x, history = self.process.interpolant, self.x, ()
        times = path.t_of_kappa(torch.tensor(kappas, dtype=torch.float64))
        times = validate_grid(torch.cat([times, torch.ones(1, dtype=torch.float64)]))
        kernel = solver.build(self.process, times)
        for level in range(len(kappas) - 1):
            at = self.process.evaluate(x, times[level], self.condition)
            move = kernel(at, history, level, _no_look, None)
            memory = (at.denoised, *history) if move.memory is None else move.memory
            x, history = move.x, memory[: kernel.history]
        return x

    def score(self, schedule: SolverSchedule) -> float:
        """Root of the mean squared distance of end points to the teacher's."""
        gap = self.end(schedule.solver, schedule.kappas) - self.ends
        value = float(gap.double().flatten(1).square().sum(1).mean().sqrt())
        return value if math.isfinite(value) else math.inf


def _no_look(*where: object) -> object:
    raise AssertionError("a schedule looks once a step")


def levels(name: str, moves: int, kappas: tuple[float, float]) -> tuple[float, ...]:
    """Ratios of a common grid: ``karras``, ``log-snr`` or ``uniform`` in the linear path's time."""
    scale: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
        "karras": (lambda k: k ** (1 / 7), lambda v: v**7),
        "log-snr": (math.log, math.exp),
        "uniform": (lambda k: 1 / (1 + k), lambda v: 1 / v - 1),
    }
    into, back = scale[name]
    high, low = (into(k) for k in kappas)
    inner = [back(high + i / moves * (low - high)) for i in range(1, moves)]
    return (kappas[0], *inner, kappas[1])


def hand_made(moves: int, kappas: tuple[float, float]) -> list[SolverSchedule]:
    """Every common grid with every order and prediction."""
    grids = [levels(name, moves, kappas) for name in ("karras", "log-snr", "uniform")]
    choices = [Choice(order, kind) for order in (1, 2, 3) for kind in ("denoised", "noise")]
    return [SolverSchedule(grid, (choice,) * moves) for grid in grids for choice in choices]


def mutate(schedule: SolverSchedule, rng: random.Random, levels_only: bool) -> SolverSchedule:
    """Change some levels by a share of the gaps around them, and some choices."""
    logs = [math.log(k) for k in schedule.kappas]
    moved = list(logs)
    for i in range(1, len(logs) - 1):
        if rng.random() < MUTATION:
            gap = (logs[i - 1] - logs[i + 1]) / 2
            moved[i] += rng.gauss(0, GAP_SHARE) * gap
    if any(b >= a for a, b in itertools.pairwise(moved)):
        moved = logs
    kappas = (schedule.kappas[0], *(math.exp(v) for v in moved[1:-1]), schedule.kappas[-1])
    choices = schedule.choices if levels_only else tuple(_mutated(c, rng) for c in schedule.choices)
    return SolverSchedule(kappas, choices)


def _mutated(choice: Choice, rng: random.Random) -> Choice:
    order, kind, relax, corrector = choice.order, choice.prediction, choice.relax, choice.corrector
    if rng.random() < MUTATION:
        order = rng.choices(ORDERS, ORDER_SHARES)[0]
    if rng.random() < MUTATION:
        kind = rng.choice(("denoised", "noise"))
    if rng.random() < MUTATION:
        relax += rng.gauss(0, RELAX_STEP)
    if rng.random() < MUTATION:
        corrector = rng.random() < 0.5
    return Choice(order, kind, relax=relax, corrector=corrector)


def cross(a: SolverSchedule, b: SolverSchedule, rng: random.Random) -> SolverSchedule:
    """Levels of one, choices of either step by step."""
    choices = tuple(x if rng.random() < 0.5 else y for x, y in zip(a.choices, b.choices, strict=True))
    return SolverSchedule((a if rng.random() < 0.5 else b).kappas, choices)


def search(
    problem: Problem, moves: int, evaluations: int, seed: int = 0, levels_only: bool = False
) -> SolverSchedule:
    """Steady-state evolution from the hand-made schedules; its first half moves levels alone.

    Returns:
        The best of ``evaluations`` schedules, its score in ``about``.

    Raises:
        ConfigError: for fewer evaluations than there are hand-made schedules, or fewer than two moves.
    """
    start = hand_made(moves, problem.kappas) if moves >= 2 else []
    if moves < 2 or evaluations < len(start):
        raise ConfigError(
            f"a search needs at least 2 moves and {len(start)} evaluations, got {moves} and {evaluations}"
        )
    rng = random.Random(seed)
    scored = sorted(((problem.score(s), i, s) for i, s in enumerate(start)), key=lambda entry: entry[:2])
    for i in range(len(start), evaluations):
        only = levels_only or i < evaluations // 2
        parents = [entry[2] for entry in scored[:PARENTS]]
        child = rng.choice(parents)
        if not only and rng.random() < CROSSOVER:
            child = cross(child, rng.choice(parents), rng)
        child = mutate(child, rng, only)
        scored = sorted([*scored, (problem.score(child), i, child)], key=lambda entry: entry[:2])[:200]
    score, _, best = scored[0]
    return replace(best, about={"score": score, "seed": seed, "evaluations": evaluations})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--moves", type=int, default=5)
    parser.add_argument("--kappas", type=float, nargs=2, default=(80.0, 0.05))
    parser.add_argument("--starts", type=int, default=64)
    parser.add_argument("--teacher-moves", type=int, default=100)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--levels-only", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    args = parser.parse_args(arguments)
    model, ends = load(args.model), (args.kappas[0], args.kappas[1])
    with torch.no_grad():
        train, fresh = (
            Problem.of(model, ends, args.starts, args.seed + i, teacher_moves=args.teacher_moves)
            for i in (0, 1)
        )
        found = search(train, args.moves, args.evaluations, args.seed, args.levels_only)
        known = [(train.score(made), fresh.score(made)) for made in hand_made(args.moves, ends)]
        held_out = fresh.score(found)
    print("best hand-made {:.4f}, on fresh starts {:.4f}".format(*min(known)))
    print(f"searched {found.about['score']:.4f}, on fresh starts {held_out:.4f}")
    if held_out >= min(on_fresh for _, on_fresh in known):
        print("a hand-made schedule is as good on fresh starts; nothing written")
        return
    about = {"model": args.model, "objective": "rms to teacher", "fresh_score": held_out, **found.about}
    replace(found, about=about).save(args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
