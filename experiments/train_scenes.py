"""Train the bundled scene networks: the flow, and the judge that is held out from steering.

    python -m itscale.experiments.train_scenes flow --out runs/scenes --steps 27000 --decay 9000
    python -m itscale.experiments.train_scenes judge --out runs/scenes --steps 4000 --decay 3000
    python -m itscale.experiments.train_scenes publish --out runs/scenes

There is no data set: every batch is drawn anew from the generator in ``itscale.scenes``, batch ``i`` from the
seed and ``i`` alone. ``evaluate_scenes.py`` then measures what was published. Every command resumes from its
checkpoint in ``--out``; the learning rate is constant and falls to zero by a cosine over the last ``--decay``
steps.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from itscale.experiments.train_digits import Muon, rate
from safetensors.torch import save_file
from torch import Tensor, nn

from itscale.networks.scene_judge import SceneJudgeNet
from itscale.networks.scene_unet import SceneUNet
from itscale.scenes import Scenes, encode, random_prompts, random_scenes

PROMPT_DROPOUT = 0.1
HELD_OUT_SEED, HELD_OUT = 10**6, 250
NETWORKS = {"flow": SceneUNet, "judge": SceneJudgeNet}
FILES = {"flow": "scenes", "judge": "scene-judge"}


def batch(rows: int, seed: int, step: int) -> tuple[Scenes, torch.Generator]:
    """Return the scenes of one step, and the generator of its noise."""
    draws = np.random.default_rng((seed, step))
    scenes = random_scenes(random_prompts(rows, draws), draws)
    return scenes, torch.Generator().manual_seed(int(draws.integers(2**62)))


def flow_times(rows: int, generator: torch.Generator) -> Tensor:
    """Draw training times: seven in ten logit-normal around 0.23, the rest uniform.

    An object of 40 pixels stands out from the noise from t = 0.1 on, its shape from 0.2 on: numbers, colours
    and shapes are decided early on the path, and that is what a prompt is about.
    """
    early = torch.sigmoid(torch.randn(rows, generator=generator) - 1.2)
    anywhere = torch.rand(rows, generator=generator)
    return torch.where(torch.rand(rows, generator=generator) < 0.7, early, anywhere)


def flow_loss(network: nn.Module, scenes: Scenes, generator: torch.Generator) -> Tensor:
    """Flow-matching loss: the velocity of the straight path from noise (t = 0) to data (t = 1)."""
    images, prompts = scenes.images(), encode(scenes.prompts)
    kept = torch.rand(len(images), 1, generator=generator) >= PROMPT_DROPOUT
    data, noise = 2 * images - 1, torch.randn(images.shape, generator=generator)
    t = flow_times(len(images), generator)
    wide = t[:, None, None, None]
    return F.mse_loss(network(wide * data + (1 - wide) * noise, t, prompts * kept).float(), data - noise)


def judge_loss(network: nn.Module, scenes: Scenes, generator: torch.Generator) -> Tensor:
    """Squared error of the density of centres, cell by cell and in total, on blurred and noisy scenes too."""
    images = scenes.images()
    pick = torch.rand(len(images), 1, 1, 1, generator=generator)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    images = torch.where(pick < 0.3, pick / 0.3 * images + (1 - pick / 0.3) * blurred, images)
    level = 0.1 * torch.rand(len(images), 1, 1, 1, generator=generator) * (pick > 0.5)
    images = (images + level * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    density, target = network(images).float(), network.target(scenes.kinds, scenes.centres)
    counts = density.sum(dim=(2, 3)) - target.sum(dim=(2, 3))  # over cells
    return 64 * F.mse_loss(density, target) + counts.square().mean()


LOSSES: dict[str, Callable[..., Tensor]] = {"flow": flow_loss, "judge": judge_loss}


def held_out_figure(name: str, network: nn.Module) -> float:
    """Loss of the flow at fixed noise, or the judge's share of scenes counted right; for the log."""
    network.eval()
    scenes, generator = batch(HELD_OUT, HELD_OUT_SEED, 0)
    with torch.no_grad():
        if name == "flow":
            figure = flow_loss(network, scenes, generator).item()
        else:
            counted = network(scenes.images()).sum(dim=(2, 3)).round()
            figure = (counted == encode(scenes.prompts)[:, :12]).all(dim=1).float().mean().item()
    network.train()
    return figure


def train(name: str, args: argparse.Namespace) -> None:
    """Train one network until ``--steps`` or ``--minutes``, averaging its weights exponentially."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    network, average = NETWORKS[name](), NETWORKS[name]()
    average.load_state_dict(network.state_dict())
    optimizer = Muon(network.parameters(), lr=args.rate, weight_decay=0.02)
    step, seconds = 0, 0.0
    file = Path(args.out) / f"{name}.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        saved = torch.load(file, weights_only=True)
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step, seconds = saved["step"], saved["seconds"]
    start, losses, saved_at = time.perf_counter(), [], time.perf_counter()
    live, slow = [
        [v for v in net.state_dict().values() if v.is_floating_point()] for net in (network, average)
    ]

    def save() -> None:
        state = {"network": network.state_dict(), "average": average.state_dict(), "step": step}
        state |= {"optimizer": optimizer.state_dict(), "seed": args.seed}
        state["seconds"] = seconds + time.perf_counter() - start
        torch.save(state, file.with_suffix(".partial"))
        file.with_suffix(".partial").replace(file)
        figure, loss = held_out_figure(name, average), np.mean(losses[-500:])
        line = f"{name} step {step} loss {loss:.4f} held out {figure:.4f} {state['seconds']:.0f} s"
        print(line, flush=True)

    while step < args.steps and time.perf_counter() - start < 60 * args.minutes:
        for group in optimizer.param_groups:
            group["lr"] = rate(step, args.steps, args.decay, args.rate)
        scenes, generator = batch(args.batch, args.seed, step)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = LOSSES[name](network, scenes, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(slow, live, max(1 - args.average, 9 / (10 + step)))
        losses.append(loss.item())
        if time.perf_counter() - saved_at > args.save_every:
            save()
            saved_at = time.perf_counter()
    save()


def publish(args: argparse.Namespace) -> None:
    """Round the averaged weights in ``--out`` to float16."""
    for name, stem in FILES.items():
        file = Path(args.out) / f"{name}.pt"
        if not file.exists():
            continue
        saved = torch.load(file, weights_only=True)
        weights = {k: v.half() if v.is_floating_point() else v for k, v in saved["average"].items()}
        note = {key: str(round(saved[key])) for key in ("step", "seconds", "seed")}
        target = Path(args.weights) / f"{stem}.safetensors"
        save_file(weights, target, metadata=note)
        print(f"{stem}: {note}, {target.stat().st_size} bytes")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("command", choices=[*NETWORKS, "publish"])
    parser.add_argument("--out", required=True, help="folder of checkpoints")
    parser.add_argument("--weights", default="itscale/networks/weights", help="folder that publish writes to")
    parser.add_argument("--steps", type=int, default=27_000)
    parser.add_argument("--decay", type=int, default=9_000, help="steps of the rate's final fall")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--average", type=float, default=0.999, help="decay of the weights' average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-every", type=float, default=60.0, help="seconds between checkpoints")
    args = parser.parse_args()
    publish(args) if args.command == "publish" else train(args.command, args)


if __name__ == "__main__":
    main()
