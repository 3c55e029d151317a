"""Runs: from a configuration to a folder of results and a report.

``load_config`` reads a recipe, file or mapping; ``plan`` says what it will cost; ``run`` does it;
``report`` turns folders into a page, ``compare`` sets two of them side by side, and ``status`` says how far
one is. Names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_NAMES = {
    "MODELS": "rooms",
    "RECIPES": "recipes",
    "CellDone": "events",
    "CellPlan": "planning",
    "CellRetried": "events",
    "CellStarted": "events",
    "Config": "config",
    "Event": "events",
    "RunComparison": "pairing",
    "RunPlan": "planning",
    "RunStarted": "events",
    "RunStatus": "standing",
    "RunSummary": "execute",
    "Setting": "config",
    "StepDone": "events",
    "compare": "pairing",
    "load_config": "config",
    "plan": "planning",
    "report": "reporting",
    "run": "execute",
    "status": "standing",
    "summary_table": "table",
}

__all__ = [
    "MODELS",
    "RECIPES",
    "CellDone",
    "CellPlan",
    "CellRetried",
    "CellStarted",
    "Config",
    "Event",
    "RunComparison",
    "RunPlan",
    "RunStarted",
    "RunStatus",
    "RunSummary",
    "Setting",
    "StepDone",
    "compare",
    "load_config",
    "plan",
    "report",
    "run",
    "status",
    "summary_table",
]

if TYPE_CHECKING:
    from itscale.runs.config import Config, Setting, load_config
    from itscale.runs.events import CellDone, CellRetried, CellStarted, Event, RunStarted, StepDone
    from itscale.runs.execute import RunSummary, run
    from itscale.runs.pairing import RunComparison, compare
    from itscale.runs.planning import CellPlan, RunPlan, plan
    from itscale.runs.recipes import RECIPES
    from itscale.runs.reporting import report
    from itscale.runs.rooms import MODELS
    from itscale.runs.standing import RunStatus, status
    from itscale.runs.table import summary_table


def __getattr__(name: str) -> Any:
    """Import the file of a name on first use."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"itscale.runs.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
