"""What ``--dry-run`` prints: every setting with its origin, and what the run will cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from itscale.cli.output import as_bytes, print_json, print_line, print_table

if TYPE_CHECKING:
    from itscale.runs import Config, RunPlan


def print_plan(config: Config, plan: RunPlan, as_json: bool) -> None:
    """Print configuration and plan as tables or as one JSON document."""
    if as_json:
        print_json(_document(config, plan))
        return
    settings = [(s.path, _value(s.value), s.origin) for s in config.settings()]
    print_table(("setting", "value", "from"), settings, f"Settings of {config.name}")
    print_table(
        (
            "cell",
            "groups",
            "particles",
            "NFE a group",
            "network rows",
            "reward calls",
            "held-out",
            "memory",
        ),
        [
            (
                c.label,
                c.groups,
                c.particles,
                f"{c.nfe:,}",
                f"{c.all_rows:,}",
                f"{c.reward_calls:,}",
                f"{c.held_out_calls:,}",
                as_bytes(c.memory_bytes),
            )
            for c in plan.cells
        ],
        "Plan",
    )
    print_line(
        f"total: {len(plan.cells)} cells, {plan.nfe:,} NFE, {plan.model_rows:,} network rows, at most "
        f"{plan.reward_calls:,} reward calls; weights and states take {as_bytes(plan.memory_bytes)}"
    )


def _document(config: Config, plan: RunPlan) -> dict[str, Any]:
    return {
        "name": config.name,
        "settings": [{"path": s.path, "value": s.value, "origin": s.origin} for s in config.settings()],
        "cells": [{**asdict(c), "all_rows": c.all_rows} for c in plan.cells],
        "total": {
            "cells": len(plan.cells),
            "nfe": plan.nfe,
            "model_rows": plan.model_rows,
            "reward_calls": plan.reward_calls,
            "memory_bytes": plan.memory_bytes,
        },
    }


def _value(value: Any) -> str:
    """Write a value as a configuration file has it."""
    from itscale.runs.documents import dump

    return dump(value).replace("\n...", "").strip()
