"""A schedule that a search has found: where to look and how to step from there, on file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError
from itscale.grids import Ratios
from itscale.solvers.scheduled import Choice, Scheduled


@dataclass(frozen=True)
class SolverSchedule:
    """Levels and choices that belong together.

    Attributes:
        kappas: noise-to-signal ratios of the looks, falling; the first step starts at the process's start.
        choices: one per step between them.
        about: what the search was about: model, objective, score, seed.

    Example:
        >>> found = SolverSchedule((20.0, 1.0, 0.05), (Choice(1), Choice(2, "noise")))
        >>> sorted(found.settings())
        ['grid', 'solver', 'steps']
    """

    kappas: tuple[float, ...]
    choices: tuple[Choice, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Ratios(self.kappas)
        if len(self.choices) != len(self.kappas) - 1:
            raise ConfigError(
                f"{len(self.kappas)} ratios need {len(self.kappas) - 1} choices, one per step between them, "
                f"got {len(self.choices)}"
            )

    @property
    def solver(self) -> Scheduled:
        return Scheduled(self.choices)

    @property
    def grid(self) -> Ratios:
        return Ratios(self.kappas)

    def settings(self) -> dict[str, Any]:
        """What ``sample`` takes: ``sample(model, **schedule.settings())``."""
        return {"solver": self.solver, "grid": self.grid, "steps": len(self.kappas)}

    def save(self, path: str | Path) -> None:
        """Write JSON, whole or not at all."""
        path = Path(path)
        content = {
            "kappas": list(self.kappas),
            "steps": [asdict(choice) for choice in self.choices],
            "about": dict(self.about),
        }
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(part, path)

    @classmethod
    def load(cls, path: str | Path) -> SolverSchedule:
        """Read a schedule.

        Raises:
            ConfigError: if the file is missing or holds something else, naming the entry at fault.
        """
        try:
            content = json.loads(Path(path).read_text())
            kappas, steps = content["kappas"], content["steps"]
            choices = tuple(Choice(**step) for step in steps)
            return cls(tuple(float(k) for k in kappas), choices, content.get("about", {}))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{path} is no solver schedule: {type(error).__name__}: {error}") from error
