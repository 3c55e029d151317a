"""Search for a solver schedule: levels first, then the order and the prediction of every step.

    python -m itscale.experiments.search_schedule --model digits --moves 5 --out digits-5.json

A score is the root-mean-square distance of end points to those of a fine teacher from the same starts:
paired, so free of Monte-Carlo noise. It repairs what few steps lose and nothing that the model gets wrong;
report a distance between laws afterwards. The winner is kept only if it beats every hand-made schedule on
fresh starts.

Reference:
    Liu et al. (2023), "A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models",
    arXiv:2312.07243. Departures: the score is not FID, no predictor ranks candidates (an evaluation takes
    milliseconds here), and two local searches take turns in place of evolution: a (1+1) strategy on levels,
    and a sweep over the choices of single steps. On a two-component mixture they find schedules at .35 to .58
    (one of 12: .83) of the best hand-made error; evolution found .44 to .91 in as many evaluations.
    The search over levels alone has the aim of Li et al. (2023), "AutoDiffusion", arXiv:2309.10438.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.grids import validate_grid
from itscale.models import load
from itscale.models.base import Model
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import Choice, Solver, SolverSchedule, UniPC

ORDERS = (1, 2, 3, 4)
FIRST_MOVE, RELAX_SHARE = 0.15, 0.2  # of the gap between levels; of that on factors of derivatives
GROWTH = 1.5


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


class Scored(NamedTuple):
    """A schedule and its score, the less the better."""

    score: float
    schedule: SolverSchedule


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


@dataclass
class Search:
    """A search with its budget: every schedule that is scored counts as one evaluation.

    Attributes:
        left: evaluations that may still be made.
    """

    problem: Problem
    rng: random.Random
    left: int

    def score(self, schedule: SolverSchedule) -> float:
        self.left -= 1
        return self.problem.score(schedule)

    def climb(self, best: Scored, tries: int, relaxes: bool) -> Scored:
        """Move all inner levels, and factors on derivatives if it ``relaxes``, and keep what is better.

        The size of moves grows where they succeed and shrinks where they fail: one success in five keeps it.
        """
        size = FIRST_MOVE
        for _ in range(min(tries, self.left)):
            moved = self._moved(best.schedule, size, RELAX_SHARE * size if relaxes else 0.0)
            if (score := self.score(moved)) < best.score:
                best, size = Scored(score, moved), GROWTH * size
            else:
                size *= GROWTH**-0.25
        return best

    def sweep(self, best: Scored, tries: int) -> Scored:
        """Try other orders, predictions and correctors of single steps, in random order; keep the better."""
        moves = len(best.schedule.choices)
        options = list(itertools.product(range(moves), ORDERS, ("denoised", "noise"), (False, True)))
        self.rng.shuffle(options)
        for i, order, kind, corrector in options[:tries]:
            choices = list(best.schedule.choices)
            choices[i] = Choice(order, kind, relax=choices[i].relax, corrector=corrector)
            if choices[i] == best.schedule.choices[i] or not self.left:
                continue
            other = SolverSchedule(best.schedule.kappas, tuple(choices))
            if (score := self.score(other)) < best.score:
                best = Scored(score, other)
        return best

    def _moved(self, schedule: SolverSchedule, size: float, relax: float) -> SolverSchedule:
        """Move levels by a share of the gaps around them; a move out of order leaves them where they are."""
        logs = [math.log(k) for k in schedule.kappas]
        gaps = [(before - after) / 2 for before, after in zip(logs, logs[2:], strict=False)]
        inner = [log + self.rng.gauss(0, size) * gap for log, gap in zip(logs[1:-1], gaps, strict=True)]
        moved = [logs[0], *inner, logs[-1]]
        if any(b >= a for a, b in itertools.pairwise(moved)):
            inner = logs[1:-1]
        kappas = (schedule.kappas[0], *(math.exp(log) for log in inner), schedule.kappas[-1])
        if not relax:
            return SolverSchedule(kappas, schedule.choices)
        choices = (replace(c, relax=c.relax + self.rng.gauss(0, relax)) for c in schedule.choices)
        return SolverSchedule(kappas, tuple(choices))


def search(
    problem: Problem, moves: int, evaluations: int, seed: int = 0, levels_only: bool = False
) -> SolverSchedule:
    """Search from the best hand-made schedules: levels of four, choices of the better two, then of the best.

    Returns:
        The best of at most ``evaluations`` schedules, its score in ``about``.

    Raises:
        ConfigError: for fewer evaluations than there are hand-made schedules, or fewer than two moves.
    """
    start = hand_made(moves, problem.kappas) if moves >= 2 else []
    if moves < 2 or evaluations < len(start):
        raise ConfigError(
            f"a search needs at least 2 moves and {len(start)} evaluations, got {moves} and {evaluations}"
        )
    run = Search(problem, random.Random(seed), evaluations)
    found = sorted((Scored(run.score(s), s) for s in start), key=lambda entry: entry.score)[:4]
    share = evaluations // 4 if levels_only else evaluations // 16
    found = sorted((run.climb(s, share, relaxes=False) for s in found), key=lambda entry: entry.score)
    if not levels_only:
        found = [run.sweep(s, evaluations // 7) for s in found[:2]]
        found = [run.climb(s, evaluations // 10, relaxes=True) for s in found]
    best = min(found, key=lambda entry: entry.score)
    if not levels_only:
        best = run.sweep(best, run.left // 2)
    best = run.climb(best, run.left, relaxes=not levels_only)
    return replace(best.schedule, about={"score": best.score, "seed": seed, "evaluations": evaluations})


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
