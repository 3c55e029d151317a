"""Samples of the Lennard-Jones cluster by Hamiltonian Monte Carlo on its exact energy, and checks of them.

    python -m itscale.experiments.lennard_jones_chains

Many chains from a gas and as many from the icosahedron, at several temperatures. Prints, per temperature
and start, the mean energy, and two numbers whose exact value is 1: the virial ``<x, grad U>/(36 T)``, and
the configurational temperature ``<|grad U|^2>/<Laplacian U>`` over T. Both starts must agree. About two
minutes on one core.

Reference:
    Neal (2011), "MCMC using Hamiltonian dynamics", arXiv:1206.1901; Rugh (1997), Phys. Rev. Lett. 78, 772,
    for the temperature.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import torch
from torch import Tensor

from itscale.rewards import LennardJones

POINTS, FREE = 13, 36
ENERGY = LennardJones()


def centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=-2, keepdim=True)


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Centred noise shaped as ``like``."""
    return centred(torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device))


def gas(chains: int, generator: torch.Generator) -> Tensor:
    """Loose points, overlaps relaxed, (chains, 13, 3) float64."""
    x = torch.empty(chains, POINTS, 3, dtype=torch.float64, device=generator.device)
    x = 1.4 * normal(x, generator)
    for _ in range(300):
        x = x - (0.002 * ENERGY.energy_and_gradient(x)[1]).clamp(-0.05, 0.05)
    return x


def icosahedra(chains: int, generator: torch.Generator) -> Tensor:
    """The cluster of least energy, a little shaken, (chains, 13, 3) float64."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [
        corner
        for a in (-1.0, 1.0)
        for b in (-golden, golden)
        for corner in ((0.0, a, b), (a, b, 0.0), (b, 0.0, a))
    ]
    x = torch.tensor([(0.0, 0.0, 0.0), *corners], dtype=torch.float64, device=generator.device)
    x = (0.963 * x / x[1].norm()).expand(chains, POINTS, 3)
    return x + 1e-3 * normal(x, generator)


STARTS = {"gas": gas, "icosahedron": icosahedra}


class Chains(NamedTuple):
    """Where chains are, (chains, 13, 3); all states that were kept; the share of proposals accepted."""

    x: Tensor
    kept: Tensor
    accepted: float


def hmc(
    x: Tensor,
    temperature: float,
    moves: int,
    generator: torch.Generator,
    *,
    leaps: int = 20,
    size: float = 0.022,
    keep: int = 1,
    energy: LennardJones = ENERGY,
) -> Chains:
    """Move every chain ``moves`` times on ``exp(-U/T)``, and keep ``keep`` states of each on the way.

    Step sizes vary by 30 % from move to move and chain to chain, so that no period is hit again and again.
    """
    kept, accepted = [], 0.0
    value, gradient = energy.energy_and_gradient(x)
    every = max(1, moves // keep)
    for move in range(moves):
        momentum = math.sqrt(temperature) * normal(x, generator)
        uniform = torch.rand(len(x), 2, generator=generator, dtype=x.dtype, device=x.device)
        step = size * (0.7 + 0.6 * uniform[:, :1, None])
        before = value + momentum.square().sum(dim=(1, 2)) / 2
        y, p, there = x, momentum - step / 2 * gradient, gradient
        after = value
        for leap in range(leaps):
            y = y + step * p
            after, there = energy.energy_and_gradient(y)
            p = p - (step if leap < leaps - 1 else step / 2) * there
        total = after + p.square().sum(dim=(1, 2)) / 2
        taken = uniform[:, 1].log() < (before - total) / temperature
        accepted += float(taken.double().mean()) / moves
        x = torch.where(taken[:, None, None], y, x)
        gradient = torch.where(taken[:, None, None], there, gradient)
        value = torch.where(taken, after, value)
        if (move + 1) % every == 0:
            kept.append(x)
    return Chains(centred(x), centred(torch.cat(kept)), accepted)


def laplacian(x: Tensor) -> Tensor:
    """Trace of the Hessian of U over the 36 free coordinates; a trap of strength 1, no overlap."""
    i, j = torch.triu_indices(POINTS, POINTS, 1)
    inverse = (x[:, i] - x[:, j]).square().sum(dim=2) ** -1
    # of one pair: u'' + 2 u'/r, once for each of its two points
    pairs = ENERGY.depth * (12 * 13 - 24) * inverse**7 - ENERGY.depth * (12 * 7 - 24) * inverse**4
    return 2 * pairs.sum(dim=1) + ENERGY.trap * FREE


class Report(NamedTuple):
    """Means over states, with standard errors from chains as independent units."""

    energy: tuple[float, float]
    virial: tuple[float, float]
    temperature: tuple[float, float]


def report(kept: Tensor, chains: int, temperature: float) -> Report:
    """Energy, and what is 1 at equilibrium."""
    energy, gradient = ENERGY.energy_and_gradient(kept)
    virial = (kept * gradient).sum(dim=(1, 2)) / (FREE * temperature)
    force, trace = gradient.square().sum(dim=(1, 2)), laplacian(kept) * temperature
    off = (force - trace) / trace.mean()  # the ratio of means, linearised

    def mean(values: Tensor) -> tuple[float, float]:
        each = values.reshape(-1, chains).mean(dim=0)
        return float(each.mean()), float(each.std()) / math.sqrt(chains)

    ratio = mean(off)
    return Report(mean(energy), mean(virial), (1 + ratio[0], ratio[1]))


def equilibrium(
    temperature: float, chains: int, moves: int, seed: int = 0, device: str = "cpu"
) -> dict[str, Chains]:
    """Chains from both starts; the first half of their moves is forgotten."""
    found = {}
    for number, (name, start) in enumerate(STARTS.items()):
        generator = torch.Generator(device).manual_seed(2 * seed + number)
        x = hmc(start(chains, generator), temperature, moves // 2, generator).x
        found[name] = hmc(x, temperature, moves // 2, generator, keep=8)
    return found


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--temperature", type=float, nargs="+", default=[2.0, 1.5, 1.2, 0.8])
    parser.add_argument("--chains", type=int, default=500)
    parser.add_argument("--moves", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print("| T | start | accepted | energy | virial | temperature |")
    print("| --- | --- | --- | --- | --- | --- |")
    for temperature in args.temperature:
        for name, found in equilibrium(temperature, args.chains, args.moves, device=args.device).items():
            cells = [f"{m:.3f} ± {e:.3f}" for m, e in report(found.kept, args.chains, temperature)]
            print(f"| {temperature:g} | {name} | {found.accepted:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
