"""Advice: settings of a run, with what they rest on."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.advice.prediction import Prediction
from itscale.advice.rules import Goal
from itscale.budget import Budget, Spent
from itscale.errors import ConfigError
from itscale.methods import METHODS, Plan, Profile
from itscale.methods.base import Method

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Advice:
    """What ``itscale.advise`` found.

    Attributes:
        goal: what it is for.
        method: ready to run, its number of particles in it.
        tilt: exponent on the reward.
        particles, steps: what the budget pays for.
        schedule: ``"flat"``, or ``"half"``: more particles where the reward is decided.
        score_every: every how many levels the reward is called; ``method.score_window`` says between which.
        plan: what a run will cost per group.
        prediction: of the evidence's error; None for a method without one.
        reasons: one sentence with its figure for every decision.
        profile: of the reward, as ``methods.CTS(profile=...)`` takes it.
        pilot: what the pilot cost.
        seconds_per_row, seconds_per_call: of a network row and of a reward call, in the pilot.
        request: everything else that ``itscale.sample`` needs: process, condition, budget ...
    """

    goal: Goal
    method: Method
    tilt: float
    particles: int
    steps: int
    schedule: str
    score_every: int
    plan: Plan
    prediction: Prediction | None
    reasons: tuple[str, ...]
    profile: Profile
    pilot: Spent
    seconds_per_row: float
    seconds_per_call: float
    request: Mapping[str, Any]

    @property
    def method_name(self) -> str:
        """The method as tables and configurations spell it."""
        return next(name for name, entry in METHODS.items() if entry is type(self.method))

    def settings(self) -> dict[str, Any]:
        """Return keyword arguments: ``itscale.sample(model, **advice.settings())``."""
        given = {k: v for k, v in self.request.items() if v is not None}
        return {**given, "method": self.method, "tilt": self.tilt, "steps": self.steps}

    def recipe(self, model: Any = None, reward: Any = None, profile: str | None = None) -> dict[str, Any]:
        """Return a run configuration, as ``itscale run`` takes it.

        Args:
            model: name or ``model`` section; an object has no name, so it must be given here.
            reward: name, expression, ``"module:function"``, mapping or list; None takes the one that was
                given to ``advise``, if that was one of these.
            profile: file of the profile, for a method that uses one.

        Raises:
            ConfigError: if something has no name.
        """
        from itscale.runs.rooms import every_room
        from itscale.runs.schema import plain

        if model is None:
            raise ConfigError("a recipe names its model: advice.recipe(model='digits'), or 'module:function'")
        section: dict[str, Any] = {"name": model} if isinstance(model, str) else dict(model)
        for name in ("condition", "guidance"):
            value = self.request.get(name)
            if value is not None and value != 1.0:
                section[name] = list(value) if isinstance(value, tuple) else value
        run: dict[str, Any] = {"steps": self.steps, "tilt": self.tilt, "seed": self.request["seed"]}
        if self.request["grid"] != "native":
            run["grid"] = plain(self.request["grid"], every_room())
        budget: Budget = self.request["budget"]
        run["budget"] = {k: v for k, v in dataclasses.asdict(budget).items() if v is not None}
        made: dict[str, Any] = {
            "description": f"Advised for {self.goal}: {self.method_name}, {self.particles} x {self.steps}.",
            "model": section,
            "reward": _named("reward", self.request["reward"] if reward is None else reward),
            "method": self._method(profile),
            "run": run,
        }
        if self.request.get("held_out") is not None:
            made["held_out"] = _named("held_out", self.request["held_out"])
        for name in ("process", "solver"):
            if self.request.get(name) is not None:
                made[name] = plain(self.request[name], every_room())
        return made

    def _method(self, profile: str | None) -> dict[str, Any]:
        """The method's name and what differs from its defaults."""
        changed = {}
        for field in dataclasses.fields(self.method):  # type: ignore[arg-type]
            value = getattr(self.method, field.name)
            if isinstance(value, Profile):
                if profile is not None:
                    changed[field.name] = profile
            elif value != field.default:
                changed[field.name] = list(value) if isinstance(value, tuple) else value
        return {"name": self.method_name, **changed}

    def save(self, path: str | Path, model: Any = None, reward: Any = None) -> tuple[Path, Path]:
        """Write the recipe, for ``itscale run``, and the profile beside it; other arguments as ``recipe``.

        The recipe names the profile by the path given here, seen from the working folder, as rewards in files
        are.

        Returns:
            The two files: ``NAME.yaml`` (or ``.yml``, ``.json``) and ``NAME.profile.json``.
        """
        from itscale.runs import documents

        path = check_suffix(path)
        beside = path.with_name(f"{path.stem}.profile.json")
        recipe = self.recipe(model, reward, str(beside))
        self.profile.save(beside)
        text = json.dumps(recipe, indent=1) + "\n" if path.suffix == ".json" else documents.dump(recipe)
        path.write_text(text, encoding="utf-8")
        return path, beside

    def summary(self) -> dict[str, Any]:
        """Return the numbers a table shows."""
        guess = self.prediction
        return {
            "goal": self.goal,
            "method": self.method_name,
            "particles": self.particles,
            "steps": self.steps,
            "tilt": self.tilt,
            "schedule": self.schedule,
            "score_every": self.score_every,
            "nfe": self.plan.nfe,
            "reward_calls": self.plan.reward_calls,
            "relative_variance": guess and guess.relative_variance,
            "log_evidence_error": guess and guess.error,
            "error_within_factor": guess and guess.factor,
            "pilot_nfe": self.pilot.total("nfe"),
            "pilot_reward_calls": self.pilot.total("reward_calls"),
            "pilot_seconds": round(self.pilot.seconds, 2),
        }

    def __repr__(self) -> str:
        lines = [f"{name:<20}{value}" for name, value in _shown(self.summary())]
        return "\n".join(["<Advice", *lines, *(f"- {reason}" for reason in self.reasons), ">"])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
            for name, value in _shown(self.summary())
        )
        why = "".join(f"<li>{html.escape(reason)}</li>" for reason in self.reasons)
        return f"<div><table>{rows}</table><ul>{why}</ul></div>"


def check_suffix(path: str | Path) -> Path:
    """Return the path of a recipe.

    Raises:
        ConfigError: if its ending is not that of a configuration.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"a recipe ends in {', '.join(SUFFIXES)}, got {str(path)!r}; use advice.yaml")
    return path


def _shown(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and text of what is known."""
    known = [(k.replace("_", " "), v) for k, v in summary.items() if v is not None]
    return [(k, f"{v:.4g}" if isinstance(v, float) else str(v)) for k, v in known]


def _named(which: str, value: Any) -> Any:
    """Return a reward that a file can hold.

    Raises:
        ConfigError: for a function or an object.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(part, str | Mapping) for part in parts):
        raise ConfigError(
            f"the {which} {value!r} has no name that a file can hold; give one: a name, 'module:function' or "
            f"'./file.py:function'"
        )
    return list(value) if isinstance(value, tuple) else value
