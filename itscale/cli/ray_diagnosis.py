"""What ``itscale doctor --ray`` finds: whether a Ray can be had, and from where on sharding pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from itscale.errors import ItscaleError


def measured(address: str, finding: Callable[..., Any]) -> list[Any]:
    """Measure the overhead of a pool, two shards on this machine or as many as a cluster has GPUs.

    Args:
        address: ``"local"``, ``"auto"`` or ``HOST:PORT``.
        finding: makes a line of what, status and detail.
    """
    from itscale.pools import Ray, session

    shards, cpus = (2, 0.0) if address == "local" else (None, 1.0)
    try:
        session.load_ray()
        from itscale.pools.measuring import measure_overhead

        found = measure_overhead(Ray(address, shards=shards, cpus=cpus, threads=1, start_timeout=120.0))
    except ItscaleError as error:
        return [finding("ray", "broken", str(error))]
    finally:
        session.disconnect()
    moves = ", ".join(f"{ms:.1f} ms with {size} a particle" for size, ms in found.moved.items())
    lines = [
        finding("ray", "ok", f"{found.shards} shards answered after {found.start:.1f} s"),
        finding(
            "ray call", "ok", f"{found.call:.1f} ms on all shards, a step without resampling {found.step:.1f}"
        ),
        finding("ray resampling", "ok", f"besides, 32 particles: {moves}"),
    ]
    for size in found.moved:
        never, fourth, every = (found.threshold(share, size) for share in (0.0, 0.25, 1.0))
        lines.append(
            finding(
                f"shard from, {size}",
                "ok",
                f"a step's forward of {never:.0f} ms without resampling, {fourth:.0f} ms with one in four "
                f"steps, {every:.0f} ms with one a step; below, give whole cells to workers (itscale sweep)",
            )
        )
    return lines
