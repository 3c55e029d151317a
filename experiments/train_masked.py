"""How the bundled masked models learn; ``train_molecules.py`` and ``train_text.py`` bring data and networks.

A run has a name and a folder. ``NAME.pt`` there is its checkpoint, from which it goes on; ``NAME-steady.pt``
is the state before the learning rate falls, from which a longer run goes on (rename it to ``NAME.pt``);
``NAME.safetensors`` has the averaged weights in float16 with the lowest held-out bound so far.
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
from itscale.experiments.train_digits import Muon
from safetensors.torch import save_file
from torch import Tensor, nn


def hide(tokens: Tensor, mask: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hide ``n`` positions of every row, ``n`` uniform from 1 to the length and spread evenly over a batch.

    Returns:
        Tokens with the mask token, and the weight of every position: ``1 / n`` where it is hidden. The
        weighted sum of losses, times the length, is an unbiased estimate of the bound on ``-log p``.
    """
    rows, length = tokens.shape
    device = tokens.device
    spread = torch.arange(rows, device=device) + torch.rand(rows, generator=generator, device=device)
    hidden = (spread / rows * length).long().clamp(max=length - 1) + 1
    noise = torch.rand(rows, length, generator=generator, device=device)
    is_hidden = noise.argsort(dim=1).argsort(dim=1) < hidden[:, None]
    return torch.where(is_hidden, mask, tokens), is_hidden / hidden[:, None]


def bound(network: nn.Module, tokens: Tensor, mask: int, generator: torch.Generator) -> Tensor:
    """Estimate the bound on ``-log p`` per position, in nats (Shi et al. 2024, arXiv:2406.04329, sec. 3)."""
    hidden, weights = hide(tokens, mask, generator)
    losses = F.cross_entropy(network(hidden).transpose(1, 2), tokens, reduction="none")
    return (losses * weights).sum() / len(tokens)


def optimizers(network: nn.Module, rate: float, weight_decay: float = 0.02) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, Adam for embeddings, biases and scales."""
    named = list(network.named_parameters())
    matrices = [p for name, p in named if name.startswith("blocks.") and p.ndim == 2 and min(p.shape) >= 16]
    taken = {id(p) for p in matrices}
    others = [p for _, p in named if id(p) not in taken]
    return [
        Muon(matrices, rate, weight_decay),
        torch.optim.AdamW(others, rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def held_out_bound(network: nn.Module, tokens: Tensor, mask: int) -> float:
    """Bound per sequence in nats, on the first 2,000 rows and always the same masks."""
    network.eval()
    generator = torch.Generator(tokens.device).manual_seed(1)
    with torch.no_grad():
        parts = [bound(network, part.long(), mask, generator).item() for part in tokens[:2000].split(500)]
    network.train()
    return float(np.mean(parts)) * tokens.shape[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every training of a masked model can be told."""
    add = parser.add_argument
    add("--out", required=True, help="folder of tokens, checkpoints and weights")
    add("--minutes", type=float, default=60.0, help="of training in all, resumed runs included")
    add("--decay", type=float, default=15.0, help="minutes of the rate's final fall")
    add("--patience", type=int, default=0, help="begin it after so many saves without a lower held-out bound")
    add("--batch", type=int, default=128)
    add("--rate", type=float, default=2e-3)
    add("--weight-decay", type=float, default=0.02)
    add("--average", type=float, default=0.998, help="decay of the weights' average")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1)
    add("--device", default="cpu", help="cpu, cuda")
    add("--compile", action="store_true", help="by torch.compile")
    add("--save-every", type=float, default=180.0, help="seconds between checkpoints")


def train(
    name: str,
    fresh: Callable[[], nn.Module],
    mask: int,
    data: Tensor,
    held_out: Tensor,
    args: argparse.Namespace,
) -> None:
    """Train for ``--minutes`` in all on rows of tokens (uint8), averaging the weights exponentially."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # Muon's small products
    data, held_out = data.to(device), held_out.to(device)
    network, average = fresh().to(device), fresh().to(device)
    average.load_state_dict(network.state_dict())
    quick = torch.compile(network) if args.compile else network
    optimizer = optimizers(network, args.rate, args.weight_decay)
    generator, step, before = torch.Generator(device).manual_seed(args.seed), 0, 0.0
    best, waited, ends = math.inf, 0, 60 * args.minutes
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.pt"
    if file.exists():
        saved = torch.load(file, weights_only=True, map_location=device)
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        for one, state in zip(optimizer, saved["optimizer"], strict=True):
            one.load_state_dict(state)
        generator.set_state(saved["generator"].cpu())
        step, before, best = saved["step"], saved["seconds"], saved["best"]
    start = saved_at = time.perf_counter()
    order, losses, is_falling = torch.randperm(len(data), generator=generator, device=device), [], False

    def seconds() -> float:
        return before + time.perf_counter() - start

    def save(to: Path) -> bool:
        """Write the state, and the averaged weights if their held-out bound is the lowest; say if it is."""
        nonlocal best
        figure = held_out_bound(average, held_out, mask)
        is_best, best = figure < best, min(figure, best)
        state = {"network": network.state_dict(), "average": average.state_dict(), "step": step}
        state |= {"optimizer": [one.state_dict() for one in optimizer], "generator": generator.get_state()}
        state |= {"seconds": seconds(), "best": best}
        torch.save(state, to.with_suffix(".partial"))
        to.with_suffix(".partial").replace(to)
        if is_best:
            note = {"step": step, "seconds": round(seconds()), "seed": args.seed, "batch": args.batch}
            weights = {key: value.half().cpu() for key, value in average.state_dict().items()}
            save_file(weights, file.with_suffix(".new"), metadata={k: str(v) for k, v in note.items()})
            file.with_suffix(".new").replace(file.with_suffix(".safetensors"))
        loss = float(torch.stack(losses or [torch.tensor(math.nan)]).mean()) * data.shape[1]
        print(f"{name} step {step} loss {loss:.3f} held out {figure:.3f} nats, {seconds():.0f} s", flush=True)
        return is_best

    live: list[Tensor] = list(network.parameters())
    slow: list[Tensor] = list(average.parameters())
    while seconds() < ends:
        left = (ends - seconds()) / (60 * args.decay)
        if left < 1 and not is_falling and losses:
            is_falling = True
            save(file.with_name(f"{name}-steady.pt"))
        for one in optimizer:
            for group in one.param_groups:
                group["lr"] = args.rate * min(1.0, (step + 1) / 200, max(left, 0.0))
        if len(order) < args.batch:
            order = torch.randperm(len(data), generator=generator, device=device)
        rows, order = order[: args.batch], order[args.batch :]
        for one in optimizer:
            one.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = bound(quick, data[rows].long(), mask, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(live, 1.0)
        for one in optimizer:
            one.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(slow, live, max(1 - args.average, 9 / (10 + step)))
        losses = [*losses[-499:], loss.detach()]
        if time.perf_counter() - saved_at > args.save_every:
            waited = 0 if save(file) else waited + 1
            saved_at = time.perf_counter()
            if args.patience and waited >= args.patience and not is_falling:
                ends = min(ends, seconds() + 60 * args.decay)
    save(file)
