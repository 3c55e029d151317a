"""Pipelines at the released sizes with random weights: what the engine adds to bare calls of their modules.

    python benchmarks/pipelines.py [--families sd15 sdxl flux] [--small] [--seconds 120] [--out DIR]

In one process, for each family: itscale against the bare calls that its run consists of (the same
arguments, the same number of times, taken in turns), against diffusers' own pipeline with
``num_images_per_prompt``, and against one particle at a time; where a run's time goes; peak memory against
the number of particles at a fixed micro-batch; and, on CUDA, which verbs of the engine wait for the device.
``--small`` takes the tiny pipelines, for CPUs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from random_pipelines import FLUX_BLOCKS, build
from torch import Tensor, nn
from torch.nn.functional import interpolate

import itscale
from itscale.pools.local import OpenLocal

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PROMPT = "a red cube on a blue ball"


@dataclass(frozen=True)
class Size:
    """What is run of a family.

    Attributes:
        microbatch: model rows a call.
        particles: of the comparisons.
        steps: of the unguided comparison; steered runs take half as many.
        memory: numbers of particles of which the peak memory is taken.
    """

    microbatch: int
    particles: int
    steps: int
    memory: tuple[int, ...]


SIZES = {
    "sd15": Size(32, 32, 10, (16, 64, 256)),
    "sdxl": Size(16, 16, 4, (16, 64)),
    "flux": Size(4, 8, 4, (8, 32)),
}
SMALL = Size(8, 8, 4, (4, 8))


class Judge(nn.Module):
    """A vision transformer of the size of CLIP ViT-L/14 that scores pictures; random weights."""

    def __init__(self, is_small: bool) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 14}
        small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "patch_size": 56}
        config = CLIPVisionConfig(
            **(small if is_small else large), num_attention_heads=16, image_size=224, projection_dim=32
        )
        self.tower = CLIPVisionModelWithProjection(config).eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        seen = interpolate(images, size=(224, 224), mode="bilinear", antialias=True)
        weights = next(self.tower.parameters())
        return self.tower((seen - 0.45).to(weights.dtype) / 0.27).image_embeds[:, 0].float()


@dataclass
class Module:
    """A function of the pipeline that a run calls: its calls are counted and timed, and can be made again."""

    name: str
    function: Callable[..., Any]
    calls: int = 0
    kept: tuple[Any, Any] | None = None
    marks: list[tuple[Any, Any]] = field(default_factory=list)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        self.kept = self.kept or (args, kwargs)
        start = mark()
        found = self.function(*args, **kwargs)
        self.marks.append((start, mark()))
        return found

    def replay(self, times: int) -> None:
        """Make the first call again, so many times."""
        args, kwargs = self.kept or ((), {})
        for _ in range(times):
            self.function(*args, **kwargs)

    def seconds(self) -> float:
        """Time of the calls since the last reset, on the device where there is one."""
        if DEVICE == "cuda":
            torch.cuda.synchronize()
            return sum(a.elapsed_time(b) for a, b in self.marks) / 1e3
        return sum(b - a for a, b in self.marks)

    def reset(self) -> None:
        self.calls = 0
        self.marks.clear()


def mark() -> Any:
    """A moment, on the device where there is one."""
    if DEVICE == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of a run, to the end of what the device was asked for."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


class Bench:
    """One family: its pipeline, its model, and the modules that runs call."""

    def __init__(self, family: str, is_small: bool) -> None:
        self.size = SMALL if is_small else SIZES[family]
        started = time.perf_counter()
        self.pipe = build(family, DEVICE, is_small)
        self.model = itscale.load(self.pipe)
        judge = Judge(is_small).to(DEVICE, torch.float32 if DEVICE == "cpu" else torch.bfloat16)
        network = self.model.network
        self.network = Module("network", network.forward)
        self.decoder = Module("decode", self.pipe.vae.decode)
        self.judge = Module("reward", judge)
        network.forward, self.pipe.vae.decode = self.network, self.decoder

        @itscale.reward(name="judge", modality="image")
        def reward(images: Tensor) -> Tensor:
            return self.judge(images)

        self.reward = reward
        self.parameters = sum(p.numel() for p in network.parameters())
        self.built = time.perf_counter() - started

    @property
    def modules(self) -> tuple[Module, Module, Module]:
        return (self.network, self.decoder, self.judge)

    def run(self, k: int, steps: int, method: str = "unguided", **pool: Any) -> Any:
        """A run of itscale."""
        steered = {"reward": self.reward, "tilt": 1.0, "process": itscale.SDE()}
        plain = {"solver": "scheduler"}
        return itscale.sample(
            self.model,
            n=k,
            steps=steps,
            condition=PROMPT,
            guidance=5.0,
            method=method,
            pool=itscale.pools.Local(microbatch=self.size.microbatch, device=DEVICE, **pool),
            **(plain if method == "unguided" else steered),
        )

    def diffusers(self, k: int, steps: int) -> Any:
        """The pipeline's own call."""
        return self.pipe(
            PROMPT,
            num_images_per_prompt=k,
            num_inference_steps=steps,
            guidance_scale=5.0,
            output_type="pt",
        )

    def against_bare(self, method: str, steps: int, turns: int) -> dict[str, Any]:
        """A run against the calls that it consists of, and where its time goes."""
        k = self.size.particles
        self.run(k, steps, method)  # warm; and the arguments to replay
        for module in self.modules:
            module.reset()
        total = seconds(lambda: self.run(k, steps, method))
        counts = [module.calls for module in self.modules]
        split = {module.name: module.seconds() for module in self.modules}
        split["engine"] = total - sum(split.values())

        @torch.no_grad()
        def bare() -> None:
            for module, count in zip(self.modules, counts, strict=True):
                module.replay(count)

        bare()
        ratios, best = [], [float("inf"), float("inf")]
        for _ in range(turns):
            pair = seconds(bare), seconds(lambda: self.run(k, steps, method))
            ratios.append(pair[1] / pair[0])
            best = [min(was, now) for was, now in zip(best, pair, strict=True)]
        return {
            "particles": k,
            "steps": steps,
            "calls": dict(zip(split, counts, strict=False)),
            "bare_s": best[0],
            "itscale_s": best[1],
            "overhead": statistics.median(ratios) - 1,
            "overheads": [r - 1 for r in ratios],
            "particles_per_second": k / best[1],
            "split_s": split,
        }

    def per_step(self) -> dict[str, float]:
        """Overhead of a step alone: the difference of a long and a short unguided run, against bare calls."""
        k, (short, long) = self.size.particles, (2, self.size.steps)
        self.network.reset()
        first = seconds(lambda: self.run(k, short))
        calls = self.network.calls
        second = seconds(lambda: self.run(k, long))
        more = self.network.calls - 2 * calls

        @torch.no_grad()
        def bare() -> None:
            self.network.replay(more)

        plain = seconds(bare)
        return {"itscale_s": second - first, "bare_s": plain, "overhead": (second - first) / plain - 1}

    def peaks(self, method: str, steps: int, counts: tuple[int, ...], **pool: Any) -> list[dict[str, Any]]:
        """Peak memory above the weights, against the number of particles."""
        found = []
        for k in counts:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            base = torch.cuda.memory_allocated()
            taken = seconds(lambda k=k: self.run(k, steps, method, **pool))
            peak = torch.cuda.max_memory_allocated() - base
            found.append({"particles": k, "weights": base, "peak": peak, "seconds": taken, **pool})
        return found

    def one_call_peak(self) -> int:
        """Peak memory of one micro-batch: the network or the decoder, whichever takes more."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        with torch.no_grad():
            self.network.replay(1)
            self.decoder.replay(1)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - base

    def waits(self, method: str) -> dict[str, Any]:
        """Which verbs of the engine wait for the device, and where."""
        found: dict[str, int] = {}
        places: dict[str, int] = {}
        with _watched(found, places):
            self.run(self.size.particles, 4, method)
        return {"by_verb": found, "places": places}


@contextmanager
def _watched(found: dict[str, int], places: dict[str, int]) -> Iterator[None]:
    """Count what synchronises, by the verb that is under way."""
    verb = ["driver"]
    plain, show = OpenLocal.call, warnings.showwarning

    def call(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        verb.append(name)
        try:
            return plain(self, name, *args, **kwargs)
        finally:
            verb.pop()

    def noted(message: Any, *_: Any, **__: Any) -> None:
        if "synchronizing" not in str(message):
            return
        found[verb[-1]] = found.get(verb[-1], 0) + 1
        mine = [
            f for f in traceback.extract_stack() if "/itscale/" in f.filename or "diffusers" in f.filename
        ]
        place = f"{verb[-1]}: " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in mine[:-5:-1])
        places[place] = places.get(place, 0) + 1

    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = noted
        OpenLocal.call = call
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
            OpenLocal.call, warnings.showwarning = plain, show


def measured(family: str, is_small: bool, ends: float) -> Iterator[tuple[str, Any]]:
    """Every figure of a family, the most wanted first; what time does not allow is left."""

    def left() -> float:
        return ends - time.perf_counter()

    bench = Bench(family, is_small)
    size = bench.size
    k = size.particles
    yield "parameters", bench.parameters
    yield "build_s", bench.built
    yield "unguided", bench.against_bare("unguided", size.steps, 3)
    yield "per_step", bench.per_step()
    if DEVICE == "cuda":
        yield "waits, unguided", bench.waits("unguided")
        yield "waits, smc", bench.waits("smc")
    yield "smc", bench.against_bare("smc", max(2, size.steps // 2), 2)
    one = seconds(lambda: [bench.diffusers(1, size.steps) for _ in range(3)])
    yield "one_at_a_time", {"particles": 3, "seconds": one, "particles_per_second": 3 / one}
    if left() > 0:
        if not is_small:
            bench.pipe.vae.enable_slicing()  # its decoder takes all pictures at once otherwise
        bench.diffusers(k, 1)
        taken = seconds(lambda: bench.diffusers(k, size.steps))
        bench.pipe.vae.disable_slicing()
        yield "diffusers", {"particles": k, "seconds": taken, "particles_per_second": k / taken}
    if DEVICE == "cuda" and left() > 0:
        yield "one_call_peak", bench.one_call_peak()
        yield "peaks, smc", bench.peaks("smc", 2, size.memory)
    if DEVICE == "cuda" and left() > 0:
        yield "peaks, states on the host", bench.peaks("smc", 2, size.memory[-1:], states="cpu")


def briefly(family: str, is_small: bool, ends: float) -> Iterator[tuple[str, Any]]:
    """The figures that need the whole process to themselves: memory, and diffusers' own call."""

    def left() -> float:
        return ends - time.perf_counter()

    bench = Bench(family, is_small)
    size = bench.size
    k, steps = size.particles, 4
    yield "build_s", bench.built
    bench.run(k, 1)
    if family != "sdxl":
        yield "unguided, brief", bench.against_bare("unguided", steps, 2 if family == "sd15" else 1)
    if not is_small:
        bench.pipe.vae.enable_slicing()  # its decoder takes all pictures at once otherwise
    bench.diffusers(k, 1)
    taken = [seconds(lambda: bench.diffusers(k, steps))]
    bench.pipe.vae.disable_slicing()
    mine = seconds(lambda: bench.run(k, steps))
    yield "diffusers", {"particles": k, "steps": steps, "seconds": min(taken), "itscale_s": mine}
    if DEVICE == "cuda":
        yield "one_call_peak", bench.one_call_peak()
        for count in size.memory:
            if left() > 0:
                method, moves = ("smc", 2) if family == "sd15" else ("best-of-n", 1)
                yield f"peak, {count}", bench.peaks(method, moves, (count,))
        if left() > 0:
            yield "peak, states on the host", bench.peaks("best-of-n", 1, size.memory[-2:-1], states="cpu")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--families", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--brief", action="store_true", help="memory, and diffusers' own call, alone")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "dtype": "bfloat16" if DEVICE == "cuda" else "float32",
        "flux_blocks": FLUX_BLOCKS,
    }
    shares = {"sd15": 0.5, "flux": 0.8, "sdxl": 1.0}
    measure = briefly if arguments.brief else measured
    for family in sorted(arguments.families, key=list(shares).index):
        ends = started + arguments.seconds * (shares[family] if len(arguments.families) > 1 else 1.0)
        found = facts[family] = {}
        try:
            for name, value in measure(family, arguments.small, ends):
                found[name] = value
                print(
                    f"{time.perf_counter() - started:6.1f} s  {family}  {name}: {json.dumps(value)}",
                    flush=True,
                )
                if arguments.out is not None:
                    arguments.out.mkdir(parents=True, exist_ok=True)
                    (arguments.out / "pipelines.json").write_text(json.dumps(facts, indent=1))
        except Exception:  # a family that fails costs its own figures, and is written down
            found["failed"] = traceback.format_exc()
            print(found["failed"], flush=True)
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
