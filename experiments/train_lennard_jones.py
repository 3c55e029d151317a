"""Train the bundled model of 13 Lennard-Jones points at temperature 2.

    python -m itscale.experiments.train_lennard_jones --out runs/lennard-jones.pt --seconds 220 --device cuda
    python -m itscale.experiments.train_lennard_jones --out runs/lennard-jones.pt --publish

It learns from chains on the exact energy that move on while it learns, so no sample is seen often. The target
of the denoiser is a mean of two that have the denoised sample for their mean: the clean sample ``x``, and
``x_noisy - sigma^2 grad U(x)/T`` (target score matching), weighted so that their errors cancel where the
energy is as curved as it is on average. At small noise that leaves a hundredth of the variance.

Reference:
    De Bortoli, Hutchinson, Wirnsberger and Doucet (2024), "Target Score Matching", arXiv:2402.08667;
    Karras et al. (2022), arXiv:2206.00364, for the factors of the loss.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from itscale.experiments.lennard_jones_chains import ENERGY, FREE, equilibrium, hmc, normal
from safetensors.torch import save_file
from torch import Tensor, nn

from itscale.models.lennard_jones import DATA_STD, TEMPERATURE
from itscale.networks.point_denoiser import PointDenoiser

LEAST, LARGEST = 0.008, 5.0  # noise levels, a little beyond those of the path


def curvature(x: Tensor) -> float:
    """Mean squared force over temperature per coordinate: the curvature of the log-density, on average."""
    force = ENERGY.energy_and_gradient(x.double())[1]
    return float(force.square().sum(dim=(1, 2)).mean()) / (FREE * TEMPERATURE**2)


def loss(network: PointDenoiser, x: Tensor, bend: float, generator: torch.Generator) -> Tensor:
    """Weighted squared error per coordinate, noise levels even in their logarithm; about 1 at the start."""
    level = torch.rand(len(x), generator=generator, device=x.device)
    sigma = LEAST * torch.exp(level * math.log(LARGEST / LEAST))
    s = sigma[:, None, None]
    noisy = x + s * normal(x, generator)
    share = 1 / (1 + bend * s**2)
    pulled = noisy - s**2 * ENERGY.energy_and_gradient(x)[1] / TEMPERATURE
    target = (1 - share) * x + share * pulled
    # the last factor makes up for the small variance of the target at small noise
    weight = (sigma**2 + network.data_std**2) / (sigma * network.data_std) ** 2 * (1 + (0.1 / sigma) ** 2)
    return (weight * (network(noisy, sigma) - target).square().sum(dim=(1, 2))).mean() / FREE


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    generator = torch.Generator(args.device).manual_seed(args.seed)
    runs = equilibrium(TEMPERATURE, args.chains, args.moves, args.seed, args.device)
    pool = torch.cat([found.kept for found in runs.values()]).float()
    bend = curvature(pool)
    print(
        f"{len(pool)} samples, std {float(pool.square().sum() / (FREE * len(pool))) ** 0.5:.4f}, {bend:.1f}"
    )
    network, average = (PointDenoiser(data_std=DATA_STD).to(args.device) for _ in range(2))
    average.load_state_dict(network.state_dict())
    live: list[Tensor] = list(network.parameters())
    slow: list[Tensor] = list(average.parameters())
    optimizer = torch.optim.AdamW(live, lr=args.rate, betas=(0.9, 0.99), weight_decay=0.0)
    began, step, shown = time.perf_counter(), 0, 0.0

    def save() -> None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        state = {"average": average.state_dict(), "step": step, "curvature": bend}
        torch.save(state, args.out.with_suffix(".partial"))
        args.out.with_suffix(".partial").replace(args.out)

    while (spent := (time.perf_counter() - began) / args.seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.rate * min(1.0, (step + 1) / 300, 2 * (1 - spent))
        if step % 100 == 99:
            some = torch.randperm(len(pool), device=args.device, generator=generator)[: args.batch * 4]
            pool[some] = hmc(pool[some].double(), TEMPERATURE, 2, generator).x.float()
        some = torch.randint(len(pool), (args.batch,), device=args.device, generator=generator)
        value = loss(network, pool[some], bend, generator)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(live, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(slow, live, max(1 - args.average, 10 / (20 + step)))
            shown += (value.detach() - shown) * max(0.01, 1 / step)
        if step % args.report == 0:
            print(f"step {step}, loss {float(shown):.4f}, {time.perf_counter() - began:.0f} s", flush=True)
            save()
    save()
    print(f"{step} steps, loss {float(shown):.4f}")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint")
    parser.add_argument("--publish", action="store_true", help="write the averaged weights into the package")
    parser.add_argument("--weights", default="itscale/networks/weights/lennard-jones.safetensors")
    parser.add_argument("--seconds", type=float, default=220.0, help="of training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--chains", type=int, default=2048, help="from either start")
    parser.add_argument("--moves", type=int, default=360, help="before training, half of them forgotten")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument("--report", type=int, default=500, help="steps between lines and checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.publish:
        saved = torch.load(args.out, weights_only=True)
        note = {"step": str(saved["step"]), "seed": str(args.seed)}
        save_file({k: v.half() for k, v in saved["average"].items()}, args.weights, metadata=note)
        return
    train(args)


if __name__ == "__main__":
    main()
