"""Search for a solver schedule: levels first, then the order and the prediction of every step.

    python -m itscale.experiments.search_schedule --model digits --moves 5 --out digits-5.json

A score is the root-mean-square distance of end points to those of a fine teacher from the same starts:
paired, so free of Monte-Carlo noise. It repairs what few steps lose and nothing that the model gets wrong;
report a distance between laws afterwards. The winner is kept only if it beats every hand-made schedule on
fresh starts.

Reference:
    Liu et al. (2023), "A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models",
    arXiv:2312.07243. Departures: the score is not FID, no predictor ranks candidates (an evaluation takes
    milliseconds here), and two local searches take turns in place of evolution: Levenberg-Marquardt steps in
    levels and factors, whose effect on end points is smooth, and a sweep over the choices of single steps.
    On a planar mixture 9 of 9 seeds found schedules at .33 to .36 of the best hand-made error in 4 moves
    (400 evaluations), and 24 of 24 at .17 to .36 in 8 (700); evolution found .44 to .91.
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
STEP = 1e-3  # of finite differences
TRIES = 5  # per step: a sweep tries all single changes, and a descent as many schedules


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

    def gaps(self, schedule: SolverSchedule) -> Tensor:
        """Departures from the teacher's end points, in one vector whose length is the score."""
        return (self.end(schedule.solver, schedule.kappas) - self.ends).double().flatten() / len(
            self.x
        ) ** 0.5

    def score(self, schedule: SolverSchedule) -> float:
        """Root of the mean squared distance of end points to the teacher's."""
        value = float(self.gaps(schedule).norm())
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

    def gaps(self, schedule: SolverSchedule) -> Tensor:
        self.left -= 1
        return self.problem.gaps(schedule)

    def descend(self, best: Scored, tries: int, relaxes: bool) -> Scored:
        """Take Levenberg-Marquardt steps in inner levels, and in factors on derivatives if it ``relaxes``.

        The gaps to the teacher are smooth in these numbers, and their slopes cost an evaluation each.
        """
        tries, damping = min(tries, self.left), 0.1
        while tries > len(point := numbers(best.schedule, relaxes)) + 1:
            here, slopes = self.gaps(best.schedule), []
            for i in range(len(point)):
                ahead = point.clone()
                ahead[i] += STEP
                slopes.append((self.gaps(with_numbers(best.schedule, ahead)) - here) / STEP)
            tries -= 1 + len(point)
            along = torch.stack(slopes, 1)
            if not bool(along.isfinite().all()):
                return best
            square, pull = along.T @ along, along.T @ here
            while tries > 0 and damping < 1e4:
                scale = torch.diag(square.diagonal().clamp(min=1e-12 * float(square.diagonal().max())))
                moved = with_numbers(
                    best.schedule, point - torch.linalg.solve(square + damping * scale, pull)
                )
                tries -= 1
                if (score := self.score(moved)) < best.score:
                    best, damping = Scored(score, moved), damping / 5
                    break
                damping *= 5
            if damping >= 1e4:
                break
        return best

    def sweep(self, best: Scored, tries: int) -> Scored:
        """Change orders, predictions or correctors of single steps, in random order; keep the better."""
        changes = [("order", p) for p in ORDERS]
        changes += [
            ("prediction", "denoised"),
            ("prediction", "noise"),
            ("corrector", False),
            ("corrector", True),
        ]
        options = list(itertools.product(range(len(best.schedule.choices)), changes))
        self.rng.shuffle(options)
        for i, (name, value) in options:
            choices = list(best.schedule.choices)
            choices[i] = replace(choices[i], **{name: value})
            if choices[i] == best.schedule.choices[i]:
                continue
            if not tries or not self.left:
                break
            tries -= 1
            other = SolverSchedule(best.schedule.kappas, tuple(choices))
            if (score := self.score(other)) < best.score:
                best = Scored(score, other)
        return best

    def round(self, best: Scored) -> Scored:
        """Sweep, then descend for about as long."""
        tries = TRIES * len(best.schedule.choices)
        return self.descend(self.sweep(best, tries), TRIES * len(best.schedule.choices), relaxes=True)


def numbers(schedule: SolverSchedule, relaxes: bool) -> Tensor:
    """Logarithms of inner levels, then the factors on derivatives if it ``relaxes``."""
    inner = [math.log(k) for k in schedule.kappas[1:-1]]
    return torch.tensor([*inner, *(c.relax for c in schedule.choices if relaxes)], dtype=torch.float64)


def with_numbers(schedule: SolverSchedule, values: Tensor) -> SolverSchedule:
    """Put numbers back; levels out of order are put in order, a percent apart."""
    inner, relaxes = values[: len(schedule.kappas) - 2].tolist(), values[len(schedule.kappas) - 2 :].tolist()
    logs, last = [math.log(schedule.kappas[0])], math.log(schedule.kappas[-1])
    for i, log in enumerate(inner):
        left = len(inner) - i
        logs.append(max(min(log, logs[-1] - 0.01), last + 0.01 * left))
    kappas = (schedule.kappas[0], *(math.exp(log) for log in logs[1:]), schedule.kappas[-1])
    choices = schedule.choices
    if relaxes:
        choices = tuple(replace(c, relax=r) for c, r in zip(choices, relaxes, strict=True))
    return SolverSchedule(kappas, choices)


def _by_score(entry: Scored) -> float:
    return entry.score


def search(
    problem: Problem, moves: int, evaluations: int, seed: int = 0, levels_only: bool = False
) -> SolverSchedule:
    """Search twice, from hand-made schedules that extrapolate denoised samples and from those of noises.

    Single changes do not lead from one kind to the other, and after a part of a search the kind that will
    lose may look the better. Each search moves the levels of its best two starts, then sweeps and descends by
    turns from the better one, to the end.

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
    scored = sorted((Scored(run.score(s), s) for s in start), key=_by_score)
    share, found = run.left // (6 if levels_only else 16), []
    for kind in ("denoised", "noise"):
        starts = [s for s in scored if s.schedule.choices[0].prediction == kind][:2]
        found.append(min((run.descend(s, share, relaxes=False) for s in starts), key=_by_score))
    while run.left and not levels_only:
        found = [run.round(s) for s in found]
    best = min(found, key=_by_score)
    if levels_only:
        best = run.descend(best, run.left, relaxes=False)
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
