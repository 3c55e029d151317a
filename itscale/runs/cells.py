"""Cells: one setting of everything that a sweep varies, checked and ready to run."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from itscale import __version__
from itscale.budget import Budget
from itscale.errors import ConfigError
from itscale.process import ODE, SDE, Masking
from itscale.runs import documents, layers, rooms
from itscale.runs.problems import PROBLEM, Draw, Measured, Problem, measured, sketch
from itscale.runs.prompts import Prompts
from itscale.runs.schema import build, check_keys, plain
from itscale.sampling.inputs import token_template
from itscale.scoring import as_reward
from itscale.scoring.facts import text_of

SECTIONS = ("model", "problem", "reward", "held_out", "method", "process", "solver", "value", "run", "pool")
STEPS = 50
LONGEST = 40
"""Letters of a prompt that a label shows."""
NAMED = ("model", "problem", "reward", "held_out", "method", "process", "solver", "value", "pool")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The section ``run``.

    Attributes:
        steps: intervals of the time grid, 50 by default; of a masked model, one per position by default.
        tilt: exponent on the reward, or ``"auto"``.
        groups: independent runs (seeds), as a count or as absolute indices; None is one per condition.
        seed: all randomness, together with the group index.
        budget: limits per group.
        grid: time grid.
        initial: what sequences of a masked model begin with: a pattern such as ``AC__GT``, or token numbers;
            one for all groups, or a list with one per group.
        save: also keep every sample and state of a cell, as ``Result.save`` writes them.
    """

    steps: int | None = None
    tilt: float | Literal["auto"] = 1.0
    groups: int | list[int] | None = None
    seed: int = 0
    budget: Budget | None = None
    grid: Any = "native"
    initial: Any = None
    save: bool = False


@dataclass(frozen=True)
class Cell:
    """One run of ``itscale.sample``.

    Attributes:
        index: position in the sweep.
        swept: swept path -> value, as in the configuration.
        values: the configuration of this cell, as written.
        method_label: the method, with what tells it from the other methods of the sweep.
        label: the cell, with all that tells it from the others.
    """

    index: int
    swept: Mapping[str, Any]
    values: Mapping[str, Any]
    method_label: str
    label: str

    @cached_property
    def model(self) -> rooms.ModelSetting:
        if "model" not in self.values:
            raise ConfigError(f"model is missing; name one: model: {' or '.join(sorted(rooms.MODELS))}")
        return rooms.ModelSetting.read(self.values["model"])

    @cached_property
    def method(self) -> Any:
        plain = "fkc" if self.model.name == "product" else "unguided"
        default = "smc" if self.has_reward else plain
        return rooms.METHOD.make(
            {"name": default, **(self.values.get("method") or {})}, "method", rooms.ROOMS
        )

    @property
    def has_reward(self) -> bool:
        return self.values.get("reward") is not None or self.problem is not None

    @cached_property
    def problem(self) -> Problem | None:
        """What is measured, if the reward is the likelihood of a measurement."""
        given = self.values.get("problem")
        return None if given is None else PROBLEM.make(given, "problem", rooms.ROOMS)

    @cached_property
    def measured(self) -> Measured | None:
        """The truth and its measurement; drawing them costs one trajectory, made once for all cells alike."""
        if self.problem is None:
            return None
        model = self.model
        draw = Draw(
            model.name,
            documents.canonical(dict(model.options)),
            self.conditions[0],
            model.guidance,
            self.process if isinstance(self.process, SDE) else SDE(),
            self.solver if isinstance(self.process, SDE) else None,
            self.run.grid,
            self.steps,
            self.run.seed,
            model.load(),
        )
        return measured(self.problem, draw)

    def sketch(self) -> Any:
        """Return the reward to plan with, for which nothing is drawn."""
        return self.reward() if self.problem is None else as_reward(sketch(self.problem, self.model.load()))

    @cached_property
    def process(self) -> ODE | SDE | Masking:
        if self.values.get("process") is None:
            if self.model.is_masked:
                return Masking()
            return SDE() if self.method.needs.noise or self.model.is_composition else ODE()
        return rooms.PROCESS.make(self.values["process"], "process", rooms.ROOMS)

    @cached_property
    def solver(self) -> Any:
        value = self.values.get("solver")
        if value is None:
            return None
        if self.model.is_masked:
            return rooms.DECODER.make(value, "solver", {"inner": rooms.DECODER})
        return rooms.SOLVER.make(value, "solver", rooms.ROOMS)

    @cached_property
    def value(self) -> Any:
        given = self.values.get("value")
        return rooms.VALUE.make({"name": "denoised"} if given is None else given, "value", rooms.ROOMS)

    @cached_property
    def pool(self) -> Any:
        return rooms.POOL.make({"name": "local", **(self.values.get("pool") or {})}, "pool", rooms.ROOMS)

    @cached_property
    def run(self) -> RunSettings:
        section = dict(self.values.get("run") or {})
        if section.get("budget") is not None:
            if not isinstance(section["budget"], Mapping):
                raise ConfigError(f"run.budget is {section['budget']!r}: write {{nfe: 800}}")
            section["budget"] = build(Budget, section["budget"], "run.budget", {})
        budget = section.pop("budget", None)
        made = build(RunSettings, section, "run", rooms.ROOMS)
        steps = made.steps
        if steps is None and not self.model.is_masked:
            steps = STEPS
        settings = RunSettings(**{**vars(made), "budget": budget, "steps": steps})
        if settings.steps is not None and settings.steps < 1:
            raise ConfigError(f"run.steps is {settings.steps}: it should be at least 1")
        return settings

    @cached_property
    def template(self) -> Tensor | None:
        """Tokens (groups, length) that sequences begin with, if any are given."""
        if self.run.initial is None:
            return None
        if not self.model.is_masked:
            raise ConfigError(f"run.initial is for masked models, and {self.model.name!r} is none; remove it")
        return token_template(self.model.load(), self.run.initial, len(self.groups))

    @property
    def steps(self) -> int:
        """Steps of the run, to show: of a masked model that takes the default, its positions."""
        return self.model.load().event_shape[0] if self.run.steps is None else self.run.steps

    @cached_property
    def groups(self) -> list[int]:
        """Absolute indices of the groups."""
        groups = self.run.groups
        if groups is None:
            groups = len(self.model.condition) if isinstance(self.model.condition, list) else 1
        return list(range(groups)) if isinstance(groups, int) else groups

    @cached_property
    def conditions(self) -> list[Any]:
        """One condition per group; a list of them is dealt out in turn."""
        given, count = self.model.condition, len(self.groups)
        if not isinstance(given, list):
            return [given] * count
        if not given or count % len(given):
            raise ConfigError(
                f"model.condition lists {len(given)} conditions for {count} groups; "
                f"make run.groups a multiple of {len(given) or 1}"
            )
        return [given[i % len(given)] for i in range(count)]

    def reward(self, which: Literal["reward", "held_out"] = "reward") -> Any:
        """Return the reward, or None; each call makes a new one."""
        value = self.values.get(which)
        if which == "reward" and self.measured is not None:
            return as_reward(self.measured.likelihood)
        if value is None:
            return None
        entries = value if isinstance(value, list) else [value]
        for i, entry in enumerate(entries):
            try:
                as_reward(entry)
            except ConfigError as error:
                where = f"{which}.{i}" if isinstance(value, list) else which
                raise type(error)(f"{where}: {error}") from error
        return as_reward(value)

    def check(self) -> Cell:
        """Make everything once, so that a mistake shows before anything runs."""
        check_keys(self.values, SECTIONS, "")
        parts = ("model", "method", "process", "solver", "value", "pool", "run", "groups", "conditions")
        for part in (*parts, "template"):
            getattr(self, part)
        if self.problem is not None:
            self._check_problem()
        else:
            self.reward("reward")
        self.reward("held_out")
        if self.method.needs.reward and not self.has_reward:
            raise ConfigError(f"method {self.label!r} needs a reward; add one, or use method: unguided")
        return self

    def _check_problem(self) -> None:
        if self.values.get("reward") is not None:
            raise ConfigError("a problem's reward is the likelihood of its measurement; leave reward out")
        if len({documents.canonical(c) for c in self.conditions}) > 1:
            raise ConfigError(
                "a problem has one truth, so all groups have one condition; sweep model.condition"
            )

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """Every setting as plain values, defaults included; machine facts (``pool``) are left out."""
        every = rooms.every_room()
        settings = {**plain(self.run, every), "groups": self.groups}
        if self.run.initial is None:
            settings.pop("initial")
        return {
            "model": {
                "name": self.model.name,
                "condition": self.conditions,
                "guidance": plain(self.model.guidance, every),
                **self.model.options,
            },
            **({} if self.problem is None else {"problem": plain(self.problem, every)}),
            "reward": self.values.get("reward"),
            "held_out": self.values.get("held_out"),
            "method": plain(self.method, every),
            "process": plain(self.process, every),
            "solver": plain(self.solver, every),
            "value": plain(self.value, every),
            "run": settings,
        }

    @cached_property
    def key(self) -> str:
        """Content address: equal settings have equal keys, whatever the order or spelling.

        The version of itscale belongs to it, since another one may give other numbers.
        """
        content = {"itscale": __version__, **self.resolved}
        return hashlib.sha256(documents.canonical(content).encode()).hexdigest()[:16]


def expand(values: Mapping[str, Any]) -> list[Cell]:
    """Return the distinct cells of a configuration, in the order of its sweep."""
    sweep = values.get("sweep") or {}
    base = {k: v for k, v in values.items() if k in SECTIONS}
    chosen = [point for block in blocks(sweep) for point in _product(block)]
    methods = [layers.named(p["method"]) for p in chosen if "method" in p]
    prompts = None if values.get("prompts") is None else Prompts.read(values["prompts"])
    cells: dict[str, Cell] = {}
    for point in chosen if prompts is None else _prompted(base, chosen, prompts):
        tree: dict[str, Any] = base
        for path, value in point.items():
            tree = layers.put(tree, path, as_section(path, value))
        method = tree.get("method") or {}
        label = _method_label(method, methods)
        rest = [_named_point(path, v) for path, v in point.items() if path != "method"]
        cell = Cell(len(cells), point, tree, label, ", ".join([label, *rest])).check()
        cells.setdefault(cell.key, cell)
    return list(cells.values())


def _prompted(
    base: Mapping[str, Any], points: Sequence[Mapping[str, Any]], prompts: Sequence[list[Any]]
) -> Iterator[dict[str, Any]]:
    """Every point of a sweep with every batch of prompts as the condition."""
    if (base.get("model") or {}).get("condition") is not None:
        raise ConfigError("prompts and model.condition say the same; give one of them")
    yield from ({**point, "model.condition": batch} for batch in prompts for point in points)


def _named_point(path: str, value: Any) -> str:
    if path == "model.condition" and isinstance(value, list) and (text := text_of(value[0])) is not None:
        more = f" and {len(value) - 1} more" if len(value) > 1 else ""
        return f"{text if len(text) <= LONGEST else text[:LONGEST].rstrip() + '…'}{more}"
    return f"{path.rpartition('.')[2]} {_short(value)}"


def as_section(path: str, value: Any) -> Any:
    """Write a bare name as a mapping where a section is named by one."""
    if path not in NAMED:
        return value
    return [layers.named(v) for v in value] if isinstance(value, list) else layers.named(value)


def blocks(sweep: Any) -> list[dict[str, list[Any]]]:
    """Return a sweep as products of lists: one block, or a list of blocks that follow one another.

    Raises:
        ConfigError: if it is neither, or a path has no list of values.
    """
    found = sweep if isinstance(sweep, list) else [sweep]
    for block in found:
        if not isinstance(block, Mapping):
            raise ConfigError(f"sweep must map paths to lists, such as run.seed: [0, 1], got {block!r}")
        for path, options in block.items():
            if path.partition(".")[0] not in SECTIONS:
                check_keys({path.partition(".")[0]: None}, SECTIONS, "sweep")
            if not isinstance(options, list) or not options:
                raise ConfigError(f"sweep.{path} must be a list of values, got {options!r}")
    return [dict(block) for block in found]


def _product(block: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*block.values()):
        yield dict(zip(block, values, strict=True))


def _method_label(method: Any, methods: list[Any]) -> str:
    """The method's name, with its options where the sweep has several of this name."""
    named = layers.named(method)
    name = str(named.get("name", "default"))
    same = {documents.canonical(m) for m in methods if m.get("name") == name}
    options = ", ".join(f"{k} {_short(v)}" for k, v in named.items() if k != "name")
    return f"{name} ({options})" if options and len(same) > 1 else name


def _short(value: Any) -> str:
    return documents.dump(value).replace("\n...", "").strip() if not isinstance(value, str) else value
