"""Does ``advise`` predict the error of log Z, and is a small budget better spent by SMC or by one chain?

    python -m itscale.experiments.advice_check

Exact mixture in 16 dimensions, four rewards. First table: relative variance of Z predicted by pilots of 128
trajectories (median and range of five), and measured over runs of SMC with 25 particles in 20 steps. Second:
error of E[r] against a large reference, and reward of the best sample, for the few particles that 30 to 75
evaluations pay for in 10 steps. A minute on one core.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
from torch import Tensor

from itscale.advice import predict, run_pilot
from itscale.methods import CTS, SMC, SVDD, Unguided
from itscale.methods.base import Method
from itscale.models import GaussianMixture
from itscale.process import SDE
from itscale.result import Result
from itscale.sampling import calibrate, sample
from itscale.scoring import Reward
from itscale.scoring import reward as reward_of

SOLVER = "ancestral"


def problem() -> tuple[GaussianMixture, dict[str, Reward]]:
    """Eight components in 16 dimensions; rewards from smooth to rough."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    model = GaussianMixture([1.0] * 8, 1.2 * normal(8, 16), [0.5] * 8, dtype=torch.float64)
    direction, waves = torch.nn.functional.normalize(normal(16), dim=0), normal(24, 16)
    heights, phases, center = normal(24), 2 * math.pi * normal(24), model.means[0] / 2 + normal(16) / 2
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "linear": lambda vectors: vectors @ direction,
        "quadratic": lambda vectors: -((vectors - center) ** 2).sum(-1),
        "count": lambda vectors: -((vectors > 0.5).sum(-1) - 11).abs().double(),
        "rough": lambda vectors: (vectors @ waves.T + phases).sin() @ heights,
    }
    return model, {k: reward_of(name=k, modality="vector")(f) for k, f in functions.items()}


def predictions(groups: int) -> None:
    model, rewards = problem()
    print("| reward, tilt sd(r) | predicted, five pilots | measured |\n| --- | --- | --- |")
    for name, reward in rewards.items():
        for spread in (1.0, 2.0):
            pilots = [
                run_pilot(model, reward, [None], 128, steps=20, solver=SOLVER, seed=100 + k) for k in range(5)
            ]
            tilt = spread / float(torch.tensor([p.profile.reward_std for p in pilots]).mean())
            method = SMC(particles=25)
            guesses = [predict(p, method, tilt, 25, 20) for p in pilots]
            found = sorted(g.relative_variance for g in guesses if g is not None)
            result = run(model, reward, method, tilt, 20, groups)
            z = (result.log_evidence - result.log_evidence.max()).exp()
            square = (z / z.mean() - 1) ** 2
            value, error = float(square.mean()), float(square.std()) / math.sqrt(groups)
            told = f"{found[2]:.2g} ({found[0]:.2g} to {found[-1]:.2g})"
            print(f"| {name}, {spread:g} | {told} | {value:.2g} ± {error:.1g} |", flush=True)


def few(groups: int) -> None:
    model, rewards = problem()
    print("| reward | evaluations | smc: E[r] | chain: E[r] | sharp smc: best | best child: best |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, reward in rewards.items():
        profile = calibrate(model, reward, steps=10, solver=SOLVER, groups=1, trajectories=512, seed=1)
        tilt = 2.0 / profile.reward_std
        large = run(model, reward, CTS(particles=1024, profile=profile, drift="none"), tilt, 10, 4)
        expected = large.expect(large.rewards).value
        middle = float(run(model, reward, Unguided(particles=2048), tilt, 10, 1).rewards.mean())
        for nfe in (30, 50, 70):
            children = (nfe - 1) // 9
            methods: list[tuple[Method, float]] = [
                (SMC(particles=nfe // 10), tilt),
                (SVDD(particles=1, children=children), tilt),
                (SMC(particles=nfe // 10), 8 * tilt),
                (SVDD(particles=1, children=children, selection="argmax"), tilt),
            ]
            done = [run(model, reward, method, t, 10, groups) for method, t in methods]
            errors = [
                float((r.expect(r.rewards).per_group - expected).square().mean().sqrt()) for r in done[:2]
            ]
            best = [float(r.best().rewards.mean()) - middle for r in done[2:]]
            cells = [f"{v / profile.reward_std:.2f}" for v in (*errors, *best)]
            print(f"| {name} | {nfe} | " + " | ".join(cells) + " |", flush=True)


def run(
    model: GaussianMixture, reward: Reward, method: Method, tilt: float, steps: int, groups: int
) -> Result:
    return sample(
        model,
        reward=reward,
        method=method,
        tilt=tilt,
        steps=steps,
        solver=SOLVER,
        process=SDE(),
        groups=groups,
        seed=9,
    )


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--groups", type=int, default=600, help="runs of each method")
    args = parser.parse_args()
    torch.set_num_threads(1)
    predictions(args.groups)
    few(args.groups)


if __name__ == "__main__":
    main()
