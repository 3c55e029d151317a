"""Train the bundled digit networks: the flow, the classifier that steers and the one that judges.

    python -m itscale.experiments.train_digits steer --data mnist10k.npz --out runs/digits --steps 3600
    python -m itscale.experiments.train_digits judge --data mnist10k.npz --out runs/digits --rate 3e-3
    python -m itscale.experiments.train_digits flow --data mnist10k.npz --out runs/digits --optimizer muon
    python -m itscale.experiments.train_digits publish --data mnist10k.npz --out runs/digits

``evaluate_digits.py`` then measures what was published. Every command resumes from its checkpoint in
``--out``. The learning rate is constant and falls to zero by a cosine over the last ``--decay`` steps, so a
longer run can continue from a checkpoint taken before the fall.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from itscale.networks.classifiers import JudgeNet, SteerCNN
from itscale.networks.unet import DigitUNet

TRAIN, HELD_OUT = 8_000, 2_000
LABEL_DROPOUT = 0.12
NETWORKS = {"flow": DigitUNet, "steer": SteerCNN, "judge": JudgeNet}
FILES = {"flow": "digits", "steer": "digit-steer", "judge": "digit-judge"}


@dataclass(frozen=True)
class Digits:
    """Images uint8 (n, 1, 28, 28) with their labels (n,)."""

    images: Tensor
    labels: Tensor

    def unit(self) -> Tensor:
        """Return the images as floats in [0, 1]."""
        return self.images.float() / 255


def split(path: str | Path) -> tuple[Digits, Digits]:
    """Return the training digits and the held-out ones, divided by the permutation of seed 0."""
    with np.load(path) as file:
        images, labels = torch.from_numpy(file["images"])[:, None], torch.from_numpy(file["labels"]).long()
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    train, held_out = order[:TRAIN], order[TRAIN : TRAIN + HELD_OUT]
    return Digits(images[train], labels[train]), Digits(images[held_out], labels[held_out])


def warp(images: Tensor, generator: torch.Generator, strength: float, bend: float = 0.0) -> Tensor:
    """Shift, turn, scale and bend images at random; at strength 1 by 2 pixels, 12 degrees, 12 per cent."""
    rows, _, height, width = images.shape

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(rows, generator=generator) - 1) * limit * strength

    angle, shear = uniform(math.radians(12)), uniform(0.1)
    scale_x, scale_y = 1 + uniform(0.12), 1 + uniform(0.12)
    theta = torch.zeros(rows, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale_x * angle.cos(), scale_y * (shear - angle.sin())
    theta[:, 1, 0], theta[:, 1, 1] = scale_x * angle.sin(), scale_y * angle.cos()
    theta[:, 0, 2], theta[:, 1, 2] = uniform(4 / width), uniform(4 / height)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    if bend:
        coarse = torch.randn(rows, 2, 5, 5, generator=generator) * bend
        fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        grid = grid + fine.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bicubic", align_corners=False).clamp(0, 1)


def flow_times(rows: int, generator: torch.Generator) -> Tensor:
    """Draw training times: seven in ten logit-normal (the hard middle), the rest uniform (both ends)."""
    middle = torch.sigmoid(torch.randn(rows, generator=generator))
    anywhere = torch.rand(rows, generator=generator)
    return torch.where(torch.rand(rows, generator=generator) < 0.7, middle, anywhere)


def flow_loss(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Flow-matching loss: the velocity of the straight path from noise (t = 0) to data (t = 1)."""
    rows = len(images)
    dropped = torch.rand(rows, generator=generator) < LABEL_DROPOUT
    labels = torch.where(dropped, DigitUNet.NO_CLASS, labels)
    data, noise = 2 * images - 1, torch.randn(images.shape, generator=generator)
    t = flow_times(rows, generator)
    wide = t[:, None, None, None]
    return F.mse_loss(network(wide * data + (1 - wide) * noise, t, labels).float(), data - noise)


def flow_batch(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Loss on lightly moved digits; half of them stay as they are, since every warp blurs a little."""
    moved = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(moved, warp(images, generator, strength=0.4), images)
    return flow_loss(network, images, labels, generator)


def judge_batch(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Cross-entropy on strongly moved and bent digits."""
    return F.cross_entropy(network(warp(images, generator, strength=1.0, bend=0.04)).float(), labels)


def steer_batch(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """The same, some blurred or noisy, as half-finished samples are when they are scored."""
    images = warp(images, generator, strength=1.0, bend=0.04)
    pick = torch.rand(len(images), 1, 1, 1, generator=generator)
    images = torch.where(pick < 0.15, F.avg_pool2d(images, 3, stride=1, padding=1), images)
    level = torch.where(pick > 0.7, pick - 0.7, torch.zeros_like(pick))  # standard deviation 0 to 0.3
    images = (images + level * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    return F.cross_entropy(network(images).float(), labels)


BATCHES: dict[str, Callable[..., Tensor]] = {"flow": flow_batch, "steer": steer_batch, "judge": judge_batch}


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal; Adam for biases, scales and the image-sided layers.

    Needs half of AdamW's steps for the same loss on this network. A convolution counts as a matrix of outputs
    by everything else.

    Reference:
        Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks"; the scale of the
        update, which lets both kinds share a learning rate, is that of Liu et al. (2025), arXiv:2502.16982.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float):
        matrices, others = [], []
        for p in parameters:
            (matrices if p.ndim >= 2 and min(len(p), p[0].numel()) >= 16 else others).append(p)
        groups = [{"params": matrices, "orthogonal": True}, {"params": others, "orthogonal": False}]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state |= {"mean": torch.zeros_like(p), "square": torch.zeros_like(p), "count": 0}
                state["count"] += 1
                if not group["orthogonal"]:
                    mean = state["mean"].lerp_(p.grad, 0.1) / (1 - 0.9 ** state["count"])
                    square = state["square"].lerp_(p.grad**2, 0.01) / (1 - 0.99 ** state["count"])
                    p.sub_(mean / (square.sqrt() + 1e-8), alpha=group["lr"])
            if group["orthogonal"]:
                for same in _by_shape(p for p in group["params"] if p.grad is not None):
                    self._turn(same, group["lr"], group["weight_decay"])

    def _turn(self, matrices: list[Tensor], lr: float, weight_decay: float) -> None:
        """Update matrices of one shape together: a few large products instead of many small ones."""
        gradients = [cast(Tensor, p.grad) for p in matrices]
        means = [self.state[p]["mean"] for p in matrices]
        torch._foreach_mul_(means, 0.95)
        torch._foreach_add_(means, gradients)
        ahead = torch.stack(torch._foreach_add(gradients, means, alpha=0.95)).flatten(2)
        size = 0.2 * max(ahead.shape[1:]) ** 0.5
        updates = (size * orthogonal(ahead)).reshape(-1, *matrices[0].shape).unbind()
        torch._foreach_mul_(matrices, 1 - lr * weight_decay)
        torch._foreach_sub_(matrices, updates, alpha=lr)


def _by_shape(parameters: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    shapes: dict[torch.Size, list[Tensor]] = {}
    for p in parameters:
        shapes.setdefault(p.shape, []).append(p)
    return shapes.values()


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring all singular values of matrices (k, rows, columns) near 1 by five Newton-Schulz steps.

    A step is ``x <- p(x x') x`` with a polynomial ``p``, so the steps are taken on the small square ``x x'``
    and their product is applied once: a third of the time for wide matrices.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if is_tall else matrices) / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram, one = x @ x.mT, torch.eye(x.shape[1], device=x.device)
    product = one
    for _ in range(5):
        p = 3.4445 * one - 4.7750 * gram + 2.0315 * gram @ gram
        product, gram = p @ product, p @ gram @ p
    x = product @ x
    return x.mT if is_tall else x


OPTIMIZERS = {"adamw": torch.optim.AdamW, "muon": Muon}


def rate(step: int, steps: int, decay: int, peak: float) -> float:
    """Learning rate: 200 steps up, constant, and a cosine down to zero over the last ``decay`` steps."""
    left = min(1.0, (steps - step) / max(decay, 1))
    return peak * min(1.0, (step + 1) / 200) * 0.5 * (1 - math.cos(math.pi * left))


def held_out_figure(name: str, network: nn.Module, digits: Digits) -> float:
    """Loss of the flow at fixed noise, or accuracy of a classifier; for the log, nothing is chosen by it."""
    network.eval()
    with torch.no_grad():
        if name == "flow":
            figure = flow_loss(network, digits.unit(), digits.labels, torch.Generator().manual_seed(1)).item()
        else:
            figure = (network(digits.unit()).argmax(1) == digits.labels).float().mean().item()
    network.train()
    return figure


def train(name: str, args: argparse.Namespace) -> None:
    """Train one network until ``--steps`` or ``--minutes``, averaging its weights exponentially."""
    torch.manual_seed(args.seed)  # initial weights and dropout; the data have a generator of their own
    torch.set_num_threads(args.threads)
    digits, held_out = split(args.data)
    network, average = NETWORKS[name](), NETWORKS[name]()
    average.load_state_dict(network.state_dict())
    optimizer = OPTIMIZERS[args.optimizer](network.parameters(), lr=args.rate, weight_decay=0.02)
    generator, step, seconds = torch.Generator().manual_seed(args.seed), 0, 0.0
    file = Path(args.out) / f"{name}.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        saved = torch.load(file, weights_only=True)
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        if saved["kind"] == args.optimizer:  # another optimizer starts without a memory
            optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["generator"])
        step, seconds = saved["step"], saved["seconds"]
    images, start, losses, saved_at = digits.unit(), time.perf_counter(), [], time.perf_counter()
    order = torch.randperm(TRAIN, generator=generator)
    live, slow = [
        [v for v in net.state_dict().values() if v.is_floating_point()] for net in (network, average)
    ]

    def save() -> None:
        state = {"network": network.state_dict(), "average": average.state_dict(), "step": step}
        state |= {"optimizer": optimizer.state_dict(), "generator": generator.get_state()}
        state |= {"kind": args.optimizer, "seed": args.seed}
        state["seconds"] = seconds + time.perf_counter() - start
        torch.save(state, file.with_suffix(".partial"))
        file.with_suffix(".partial").replace(file)
        figure = held_out_figure(name, average, held_out)
        loss = np.mean(losses[-500:])
        print(f"{name} step {step} loss {loss:.4f} held out {figure:.4f} {state['seconds']:.0f} s")

    while step < args.steps and time.perf_counter() - start < 60 * args.minutes:
        for group in optimizer.param_groups:
            group["lr"] = rate(step, args.steps, args.decay, args.rate)
        if len(order) < args.batch:
            order = torch.randperm(TRAIN, generator=generator)
        rows, order = order[: args.batch], order[args.batch :]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = BATCHES[name](network, images[rows], digits.labels[rows], generator)
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
    """Round the averaged weights in ``--out`` to float16 and add a sample of held-out digits."""
    folder = Path(args.weights)
    for name, stem in FILES.items():
        file = Path(args.out) / f"{name}.pt"
        if not file.exists():
            continue
        saved = torch.load(file, weights_only=True)
        weights = {k: v.half() if v.is_floating_point() else v for k, v in saved["average"].items()}
        note = {key: str(round(saved[key])) for key in ("step", "seconds", "seed")}
        save_file(weights, folder / f"{stem}.safetensors", metadata=note)
        print(f"{stem}: {note}, {(folder / f'{stem}.safetensors').stat().st_size} bytes")
    _, held_out = split(args.data)
    sample = {"images": held_out.images[:200].contiguous(), "labels": held_out.labels[:200].to(torch.uint8)}
    save_file(sample, folder / "digits-sample.safetensors")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("command", choices=[*NETWORKS, "publish"])
    parser.add_argument("--data", required=True, help="npz with images uint8 (10000, 28, 28) and labels")
    parser.add_argument("--out", required=True, help="folder of checkpoints")
    parser.add_argument("--weights", default="itscale/networks/weights", help="folder that publish writes to")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--decay", type=int, default=3000, help="steps of the rate's final fall")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--average", type=float, default=0.999, help="decay of the weights' average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=float, default=60.0, help="seconds between checkpoints")
    args = parser.parse_args()
    publish(args) if args.command == "publish" else train(args.command, args)


if __name__ == "__main__":
    main()
