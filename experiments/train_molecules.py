"""Train the bundled masked models of molecules: ZINC-250k, and QM9 for tests.

    python -m itscale.experiments.train_molecules zinc --data zinc250k_smiles.txt.gz --out runs --minutes 60
    python -m itscale.experiments.train_molecules qm9 --data qm9_smiles.csv.gz --out runs --minutes 5
    python -m itscale.experiments.train_molecules publish --out runs

Molecules lose their stereo marks and become SELFIES of canonical SMILES, once; the tokens stay in ``--out``.
Every command resumes from its checkpoint there. The learning rate is constant and falls to zero over the last
``--decay`` minutes; the state before the fall is kept as ``NAME-steady.pt``, from which a longer run goes on
(rename it to ``NAME.pt``). ``evaluate_molecules.py`` then measures what was published.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from itscale.experiments.train_digits import Muon
from safetensors.torch import save_file
from torch import Tensor, nn

from itscale.models.molecules import MODELS, Spelling

HELD_OUT = 10_000


def smiles_in(path: Path) -> Iterator[str]:
    """Molecules of a file: one a line, or the column ``smiles`` of a table."""
    with gzip.open(path, "rt") as file:
        if path.name.endswith(".csv.gz"):
            yield from (row["smiles"] for row in csv.DictReader(file))
        else:
            yield from (line.strip() for line in file)


def flat_smiles(smiles: str) -> str | None:
    """Canonical SMILES without stereo marks; None where RDKit finds no molecule."""
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")  # pyright: ignore[reportAttributeAccessIssue]
    molecule = Chem.MolFromSmiles(smiles)
    return Chem.MolToSmiles(molecule, isomericSmiles=False) if molecule is not None else None


def tokens_of(path: Path, spelling: Spelling) -> Tensor:
    """All molecules of a file that the vocabulary and the length can hold, uint8 (molecules, length)."""
    rows = []
    for smiles in smiles_in(path):
        flat = flat_smiles(smiles)
        row = spelling.tokens_or_none(flat) if flat else None
        if row is not None:
            rows.append(np.array(row, dtype=np.uint8))
    return torch.from_numpy(np.stack(rows))


def split(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Training molecules and 10,000 held-out ones, divided by the permutation of seed 0."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(tokens)))
    return tokens[order[HELD_OUT:]], tokens[order[:HELD_OUT]]


def prepared(name: str, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Training and held-out tokens, read from ``--out`` or made once."""
    file = Path(args.out) / f"{name}-tokens.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, tokens=tokens_of(Path(args.data), MODELS[name].spelling).numpy())
    with np.load(file) as saved:
        return split(torch.from_numpy(saved["tokens"]))


def hide(tokens: Tensor, mask: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hide ``n`` positions of every row, ``n`` uniform from 1 to the length and spread evenly over a batch.

    Returns:
        Tokens with the mask token, and the weight of every position: ``1 / n`` where it is hidden. The
        weighted sum of losses, times the length, is an unbiased estimate of the bound on ``-log p``.
    """
    rows, length = tokens.shape
    spread = (torch.arange(rows) + torch.rand(rows, generator=generator)) / rows
    hidden = (spread * length).long().clamp(max=length - 1) + 1
    rank = torch.rand(rows, length, generator=generator).argsort(dim=1).argsort(dim=1)
    is_hidden = rank < hidden[:, None]
    return torch.where(is_hidden, mask, tokens), is_hidden / hidden[:, None]


def bound(network: nn.Module, tokens: Tensor, mask: int, generator: torch.Generator) -> Tensor:
    """Estimate the bound on ``-log p`` per position, in nats (Shi et al. 2024, arXiv:2406.04329, sec. 3)."""
    hidden, weights = hide(tokens, mask, generator)
    losses = F.cross_entropy(network(hidden).transpose(1, 2), tokens, reduction="none")
    return (losses * weights).sum() / len(tokens)


def optimizers(network: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, Adam for embeddings, biases and scales."""
    blocks = [p for name, p in network.named_parameters() if name.startswith("blocks.")]
    others = [p for name, p in network.named_parameters() if not name.startswith("blocks.")]
    return [Muon(blocks, rate, 0.02), torch.optim.AdamW(others, rate, betas=(0.9, 0.98), weight_decay=0.0)]


def held_out_bound(network: nn.Module, tokens: Tensor, mask: int) -> float:
    """Bound per molecule in nats, on the first 2,000 held-out ones and always the same masks."""
    network.eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        parts = [bound(network, part.long(), mask, generator).item() for part in tokens[:2000].split(500)]
    network.train()
    return float(np.mean(parts)) * tokens.shape[1]


def train(name: str, args: argparse.Namespace) -> None:
    """Train for ``--minutes`` in all, averaging the weights exponentially."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = MODELS[name]
    data, held_out = prepared(name, args)
    mask = model.spelling.vocabulary
    network, average = model.network(), model.network()
    average.load_state_dict(network.state_dict())
    optimizer = optimizers(network, args.rate)
    generator, step, before = torch.Generator().manual_seed(args.seed), 0, 0.0
    file = Path(args.out) / f"{name}.pt"
    if file.exists():
        saved = torch.load(file, weights_only=True)
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        for one, state in zip(optimizer, saved["optimizer"], strict=True):
            one.load_state_dict(state)
        generator.set_state(saved["generator"])
        step, before = saved["step"], saved["seconds"]
    start = saved_at = time.perf_counter()
    order, losses, is_falling = torch.randperm(len(data), generator=generator), [], False

    def seconds() -> float:
        return before + time.perf_counter() - start

    def save(to: Path) -> None:
        state = {"network": network.state_dict(), "average": average.state_dict(), "step": step}
        state |= {"optimizer": [one.state_dict() for one in optimizer], "generator": generator.get_state()}
        state |= {"seconds": seconds(), "cpu": time.process_time(), "seed": args.seed, "batch": args.batch}
        torch.save(state, to.with_suffix(".partial"))
        to.with_suffix(".partial").replace(to)
        loss, figure = np.mean(losses[-500:]) * data.shape[1], held_out_bound(average, held_out, mask)
        print(
            f"{name} step {step} loss {loss:.3f} held out {figure:.3f} nats, {seconds():.0f} s, "
            f"{time.process_time():.0f} s of a core",
            flush=True,
        )

    live: list[Tensor] = list(network.parameters())
    slow: list[Tensor] = list(average.parameters())
    while seconds() < 60 * args.minutes:
        left = (60 * args.minutes - seconds()) / (60 * args.decay)
        if left < 1 and not is_falling:
            is_falling = True
            save(file.with_name(f"{name}-steady.pt"))
        for one in optimizer:
            for group in one.param_groups:
                group["lr"] = args.rate * min(1.0, (step + 1) / 200, max(left, 0.0))
        if len(order) < args.batch:
            order = torch.randperm(len(data), generator=generator)
        rows, order = order[: args.batch], order[args.batch :]
        for one in optimizer:
            one.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = bound(network, data[rows].long(), mask, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(live, 1.0)
        for one in optimizer:
            one.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(slow, live, max(1 - args.average, 9 / (10 + step)))
        losses.append(loss.item())
        if time.perf_counter() - saved_at > args.save_every:
            save(file)
            saved_at = time.perf_counter()
    save(file)


def publish(args: argparse.Namespace) -> None:
    """Round the averaged weights in ``--out`` to float16."""
    for name, model in MODELS.items():
        file = Path(args.out) / f"{name}.pt"
        if not file.exists():
            continue
        saved = torch.load(file, weights_only=True)
        note = {key: str(round(saved[key])) for key in ("step", "seconds", "seed", "batch")}
        to = Path(args.weights) / f"{model.weights}.safetensors"
        save_file({k: v.half() for k, v in saved["average"].items()}, to, metadata=note)
        print(f"{model.weights}: {note}, {to.stat().st_size} bytes")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("command", choices=[*MODELS, "publish"])
    parser.add_argument("--data", help="zinc250k_smiles.txt.gz or qm9_smiles.csv.gz")
    parser.add_argument("--out", required=True, help="folder of tokens and checkpoints")
    parser.add_argument("--weights", default="itscale/networks/weights", help="folder that publish writes to")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="of training in all, resumed runs included"
    )
    parser.add_argument("--decay", type=float, default=15.0, help="minutes of the rate's final fall")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--average", type=float, default=0.998, help="decay of the weights' average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-every", type=float, default=180.0, help="seconds between checkpoints")
    args = parser.parse_args()
    if args.command != "publish" and not args.data and math.isfinite(args.minutes):
        file = Path(args.out) / f"{args.command}-tokens.npz"
        if not file.exists():
            parser.error("--data is needed once, to make the tokens")
    publish(args) if args.command == "publish" else train(args.command, args)


if __name__ == "__main__":
    main()
