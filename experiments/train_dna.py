"""Train the bundled masked model of DNA sequences that HOXD13 binds.

    python -m itscale.experiments.train_dna --out runs/dna.pt --steps 6000
    python -m itscale.experiments.train_dna --out runs/dna.pt --publish

It learns from fresh draws of a known law, probabilities proportional to exp(2 z) with z the standardised
binding of HOXD13 to every 8-mer, and prints how far what it samples is from that law, by enumeration.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from itscale.experiments.train_masked import bound, optimizers
from itscale.rewards.dna_binding import LETTERS, SITE, standardised
from safetensors.torch import save_file
from torch import nn

from itscale.models import Enumerable, EventLaw, wrap_masked
from itscale.models.dna import BASE_FACTOR, BASE_TILT, fresh_network

MASK = len(LETTERS)


def target() -> Enumerable:
    """The law of the training sequences."""
    return Enumerable((BASE_TILT * standardised(BASE_FACTOR)).reshape((MASK,) * SITE))


def distances(network: nn.Module) -> tuple[float, float]:
    """Total variation and Kullback-Leibler divergence of what the network samples to its target."""
    found = EventLaw(wrap_masked(network, vocabulary=MASK, length=SITE)).law.law
    law = target().law
    return float((found - law).abs().sum() / 2), float((found * (found / law).log()).sum())


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--out", required=True, help="checkpoint, from which a run goes on")
    parser.add_argument("--publish", action="store_true", help="write the averaged weights into the package")
    parser.add_argument("--weights", default="itscale/networks/weights/dna.safetensors")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--decay", type=int, default=2000, help="steps of the rate's final fall")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--average", type=float, default=0.995)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    file = Path(args.out)
    if args.publish:
        saved = torch.load(file, weights_only=True)
        note = {"step": str(saved["step"]), "seed": str(args.seed)}
        save_file({k: v.half() for k, v in saved["average"].items()}, args.weights, metadata=note)
        return
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    network, average = fresh_network(), fresh_network()
    average.load_state_dict(network.state_dict())
    optimizer, step = optimizers(network, args.rate), 0
    generator = torch.Generator().manual_seed(args.seed)
    if file.exists():
        saved = torch.load(file, weights_only=True)
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        step = saved["step"]
        generator.manual_seed(args.seed + step)
    law, sequences, start = target().law.float(), target().sequences, time.perf_counter()
    live: list[torch.Tensor] = list(network.parameters())
    slow: list[torch.Tensor] = list(average.parameters())

    def save() -> None:
        state = {"network": network.state_dict(), "average": average.state_dict(), "step": step}
        torch.save(state, file.with_suffix(".partial"))
        file.with_suffix(".partial").replace(file)

    while step < args.steps:
        for one in optimizer:
            one.zero_grad()
            for group in one.param_groups:
                group["lr"] = args.rate * min(1.0, (step + 1) / 200, (args.steps - step) / args.decay)
        drawn = sequences[torch.multinomial(law, args.batch, replacement=True, generator=generator)]
        bound(network, drawn, MASK, generator).backward()
        nn.utils.clip_grad_norm_(live, 1.0)
        for one in optimizer:
            one.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(slow, live, max(1 - args.average, 9 / (10 + step)))
        if step % 1000 == 0:
            save()
            print(f"step {step}, {time.perf_counter() - start:.0f} s", flush=True)
    save()
    total_variation, divergence = distances(average.eval())
    print(f"total variation {total_variation:.4f}, divergence {divergence:.4f} nats")


if __name__ == "__main__":
    main()
