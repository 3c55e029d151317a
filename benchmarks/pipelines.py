"""Particles per second on a pipeline: the engine beside bare calls of its network, one by one, and diffusers.

    python benchmarks/pipelines.py [--size small|sd15] [--particles 8] [--steps 5] [--repeats 3]

``small`` is a U-Net of two million parameters for CPUs; ``sd15`` the U-Net and autoencoder of Stable
Diffusion 1.5 with random weights. All figures come from one process, taken in turns; ratios are what counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import diffusers
import torch

import itscale
from itscale.models.pipelines import tiny, tiny_parts

SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "small": (
        {"block_out_channels": (32, 64), "sample_size": 32, "norm_num_groups": 8, "attention_head_dim": 8},
        {"block_out_channels": (16, 32), "norm_num_groups": 8},
    ),
    "sd15": (
        {
            "block_out_channels": (320, 640, 1280, 1280),
            "layers_per_block": 2,
            "sample_size": 64,
            "norm_num_groups": 32,
            "attention_head_dim": 8,
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        },
        {
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
        },
    ),
}


def built(size: str, device: str) -> Any:
    """A pipeline of a size, with random weights, on a device."""
    unet, vae = SIZES[size]
    pipe = tiny.stable_diffusion(**unet)
    plain = tiny.stable_diffusion()
    parts = {**plain.components, "unet": pipe.unet, "vae": tiny_parts.image_vae(**vae)}
    made = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    dtype = torch.float16 if device == "cuda" else torch.float32
    return made.to(device, dtype)


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of a run, to the end of what the device was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--particles", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = built(arguments.size, device)
    model = itscale.load(pipe)
    k, steps = arguments.particles, arguments.steps
    pool = itscale.pools.Local(microbatch=2 * k, device=device)
    settings = {
        "condition": "a red cube",
        "guidance": 5.0,
        "steps": steps,
        "solver": "scheduler",
        "pool": pool,
    }
    x = torch.randn(k, *model.event_shape, device=device)
    both = model.encode([None, "a red cube"])
    given = itscale.models.conditions.rows_of(both.to(device), torch.tensor([0] * k + [1] * k))

    @torch.no_grad()
    def bare() -> None:
        for level in range(steps):
            t = torch.tensor(0.1 + 0.8 * level / steps, dtype=torch.float64)
            model.predict(torch.cat([x, x]), t, given)

    @torch.no_grad()
    def decoding() -> None:
        model.decode(x)

    one = itscale.pools.Local(microbatch=2, device=device)
    runs = {
        "network alone": bare,
        "decoding alone": decoding,
        "itscale, unguided": lambda: itscale.sample(model, n=k, **settings),
        "itscale, smc": lambda: itscale.sample(
            model, n=k, **{**settings, "solver": None}, reward="brightness", method="smc", tilt=1.0
        ),
        "one particle at a time": lambda: [
            itscale.sample(model, n=1, groups=[i], **{**settings, "pool": one}) for i in range(k)
        ],
        "diffusers": lambda: pipe(
            "a red cube",
            num_images_per_prompt=k,
            num_inference_steps=steps,
            guidance_scale=5.0,
            output_type="pt",
        ),
    }
    for run in runs.values():  # warm
        run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            taken[name].append(seconds(run))
    best = {name: min(times) for name, times in taken.items()}
    floor = best["network alone"] + best["decoding alone"]
    overhead = [
        plain / (network + decoder) - 1
        for plain, network, decoder in zip(
            taken["itscale, unguided"], taken["network alone"], taken["decoding alone"], strict=True
        )
    ]
    for name, value in best.items():
        print(
            f"{name:24} {value:8.3f} s   {k / value:8.2f} particles/s   {value / floor:5.2f} x network and "
            "decoder"
        )
    print(f"overhead of the engine, median of {arguments.repeats}: {statistics.median(overhead):+.1%}")
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    facts = {
        "device": device,
        "size": arguments.size,
        "particles": k,
        "steps": steps,
        "peak_bytes": peak,
        **best,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
