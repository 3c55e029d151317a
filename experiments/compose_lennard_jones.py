"""A Lennard-Jones cluster annealed from temperature 2, against chains on the exact energy.

    python -m itscale.experiments.compose_lennard_jones [--temperature 1.5 0.8]

``model ** (2 / T)`` for the bundled model, with weights and without. Prints a table, per temperature and
sampler, and draws a figure of energies and distances into ``--out``:

- energy: mean; W1 and W2: between the energies of samples and those of the chains.
- distance W2: between the distances of all pairs of points.
- moves: after how many moves of Hamiltonian Monte Carlo by the exact energy, 1, 2, 4, ..., W1 is below 1.

Energies are cut off at a distance of 0.7 (see ``rewards.LennardJones``), so that two points that overlap cost
much and not everything. About a minute a row of one core; ``--device cuda`` with ``--microbatch 4096``
for more particles. ``train_lennard_jones`` trains the model.

Reference:
    Skreta et al. (2025), arXiv:2503.02819, table 3, for the problem.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from itscale.experiments.lennard_jones_chains import ENERGY, POINTS, equilibrium, hmc
from torch import Tensor

from itscale.methods import FKC
from itscale.models import load
from itscale.models.lennard_jones import TEMPERATURE
from itscale.pools import Local
from itscale.process import SDE, Natural
from itscale.sampling import sample

ENOUGH, MOST = 1.0, 256  # distance of energies that ends the moves, and the most moves that are made


def wasserstein(x: Tensor, y: Tensor, power: int) -> float:
    """Of numbers, by a thousand quantiles."""
    at = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    gap = (torch.quantile(x.double(), at) - torch.quantile(y.double(), at)).abs()
    return float((gap**power).mean() ** (1 / power))


def distances(x: Tensor, most: int = 200_000) -> Tensor:
    """Distances of all pairs; a part of the samples where they are too many for quantiles."""
    i, j = torch.triu_indices(POINTS, POINTS, 1)
    some = x[: most // len(i)]
    return (some[:, i] - some[:, j]).norm(dim=2).flatten()


class Row(NamedTuple):
    """How samples (n, 13, 3) of one sampler compare with those of the chains."""

    energy: float
    w1: float
    w2: float
    distance_w2: float

    @classmethod
    def of(cls, x: Tensor, truth: Tensor) -> Row:
        x, truth = x.double().cpu(), truth.double().cpu()
        energy, exact = ENERGY.energy(x), ENERGY.energy(truth)
        return cls(
            float(energy.mean()),
            wasserstein(energy, exact, 1),
            wasserstein(energy, exact, 2),
            wasserstein(distances(x), distances(truth), 2),
        )


def moves_needed(x: Tensor, truth: Tensor, temperature: float, seed: int = 0) -> int | None:
    """Moves by the exact energy until energies are right, a power of two; None where 256 do not do."""
    x, made = x.double(), 0
    generator = torch.Generator(x.device).manual_seed(seed)
    for total in (0, *(2**k for k in range(int(math.log2(MOST)) + 1))):
        if total:
            x = hmc(x, temperature, total - made, generator).x
        made = total
        if Row.of(x, truth).w1 < ENOUGH:
            return total
    return None


SAMPLERS: dict[str, tuple[str, Any, SDE]] = {
    "shortcut, no weights": ("none", "unguided", SDE()),
    "published: no gauge, resampled at every step": ("none", FKC(ess_threshold=1.0), SDE()),
    "Gaussian gauge": ("gaussian", FKC(), SDE()),
    "adaptive gauge": ("adaptive", FKC(), SDE()),
    "Gaussian gauge, twice the noise": ("gaussian", FKC(), SDE(diffusion=Natural(2.0))),
}


def annealed(temperature: float, sampler: str, args: argparse.Namespace) -> tuple[Tensor, float]:
    """Samples (groups, n, 13, 3) at a temperature, and the least effective share of particles."""
    gauge, method, process = SAMPLERS[sampler]
    law = (load("lennard-jones") ** (TEMPERATURE / temperature)).corrected(gauge=gauge)
    result = sample(
        law,
        method=method,
        n=args.particles,
        groups=args.groups,
        steps=args.steps,
        process=process,
        pool=Local(device=args.device, microbatch=args.microbatch),
        seed=args.seed,
    )
    drawn = result.samples if method == "unguided" else result.resample(args.particles)
    least = min(float(torch.as_tensor(level["ess"]).min()) for level in result.trace)
    return drawn.to(args.device), least / args.particles


def draw(found: dict[tuple[float, str], Tensor], truth: dict[float, Tensor], path: Path) -> None:
    """Energies and distances, a row per temperature."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * len(truth) + 0.3), layout="constrained")
    axes = figure.subplots(len(truth), 2, squeeze=False)
    for (left, right), (temperature, exact) in zip(axes, truth.items(), strict=True):
        energy = ENERGY.energy(exact.double().cpu())
        low, high = float(energy.min()) - 5, float(energy.max()) + 10
        edges, steps = torch.linspace(low, high, 50).tolist(), torch.linspace(0.6, 3.5, 100).tolist()
        style: dict[str, Any] = {"density": True, "histtype": "stepfilled", "color": "0.8", "label": "chains"}
        left.hist(energy.tolist(), edges, **style)
        right.hist(distances(exact.cpu()).tolist(), steps, **style)
        for (at, name), x in found.items():
            if at == temperature:
                style = {"density": True, "histtype": "step", "label": name}
                left.hist(ENERGY.energy(x.double().cpu()).clamp(max=high).tolist(), edges, **style)
                right.hist(distances(x.cpu()).tolist(), steps, **style)
        left.set_title(f"T = {temperature:g}", fontsize=9)
        left.set_xlabel("energy")
        right.set_xlabel("distance of two points")
        left.set_yticks([])
        right.set_yticks([])
    axes[0, 1].legend(fontsize=7)
    figure.savefig(path, dpi=110)


@torch.no_grad()
def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--temperature", type=float, nargs="+", default=[1.5, 0.8])
    parser.add_argument("--sampler", nargs="+", choices=SAMPLERS, default=list(SAMPLERS), metavar="NAME")
    parser.add_argument("--particles", type=int, default=512)
    parser.add_argument("--groups", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--chains", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--microbatch", type=int, default=128, help="128 fits a core, 4096 a GPU")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    args = parser.parse_args()
    found: dict[tuple[float, str], Tensor] = {}
    truth: dict[float, Tensor] = {}
    print("| T | sampler | energy | W1 | W2 | distance W2 | least ESS | moves |")
    print("| --- |" + " --- |" * 7)
    for temperature in [TEMPERATURE, *args.temperature]:
        chains = equilibrium(temperature, args.chains, 300, device=args.device)
        one, other = (runs.kept for runs in chains.values())
        truth[temperature] = torch.cat([one, other])

        def show(name: str, groups: Tensor, least: float | None, temperature: float = temperature) -> None:
            exact = truth[temperature]
            rows = [Row.of(x, exact) for x in groups]
            cells = [f"{sum(column) / len(rows):.3g}" for column in zip(*rows, strict=True)]
            share = "" if least is None else f"{least:.0%}"
            is_exact = name.startswith("chains") or temperature == TEMPERATURE
            needed = "" if is_exact else moves_needed(groups[0], exact, temperature)
            needed = f"> {MOST}" if needed is None else needed
            print(f"| {temperature:g} | {name} | {' | '.join(cells)} | {share} | {needed} |", flush=True)

        show("chains from the other start", other[None], None)
        if temperature == TEMPERATURE:
            show("the model itself", annealed(temperature, "shortcut, no weights", args)[0], None)
            continue
        show("samples of T = 2", truth[TEMPERATURE][None, :: max(1, 8 // args.groups)], None)
        for name in args.sampler:
            samples, least = annealed(temperature, name, args)
            show(name, samples, None if name.startswith("shortcut") else least)
            found[temperature, name] = samples[0]
    del truth[TEMPERATURE]
    draw(found, truth, args.out / "compose-lennard-jones.png")


if __name__ == "__main__":
    main()
