"""Figures of sharded runs as metrics of Ray, which its dashboard agents export to Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNTED = {
    "rows_moved": "Particles that changed their shard.",
    "bytes_moved": "Bytes that went from shard to shard.",
    "recoveries": "Times that shards were lost and the run went on.",
}
STEP_SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]


class Exported:
    """Counters, a histogram of steps and the overhead; their names begin with ``itscale``."""

    def __init__(self) -> None:
        from ray.util import metrics

        self._counters = {name: metrics.Counter(f"itscale_{name}", text) for name, text in COUNTED.items()}
        self._seconds = metrics.Histogram("itscale_step_seconds", "Seconds of a step.", STEP_SECONDS)
        self._overhead = metrics.Gauge(
            "itscale_overhead_ratio", "Share of the last step in which no shard computed."
        )

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Take the facts of one step."""
        for name, counter in self._counters.items():
            if facts[name]:
                counter.inc(facts[name])
        if facts["seconds"] > 0:
            self._seconds.observe(facts["seconds"])
            self._overhead.set(facts["overhead_ratio"])
