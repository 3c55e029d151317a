"""``itscale advise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from itscale.cli.output import print_json, print_line, print_table, stdout_kept_clean

if TYPE_CHECKING:
    from itscale.advice import Advice

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A name, module:function or {name: ..., ...}.")]
Reward = Annotated[
    str, typer.Argument(metavar="REWARD", help="A name, an expression, module:attribute or ./file.py:name.")
]
Budget = Annotated[
    str, typer.Option(metavar="N", help="Limit per group: NFE, or e.g. model_rows=800,reward_calls=200.")
]
Purpose = Annotated[str, typer.Option(help="sample the tilted law, search for the best, or evidence.")]
Condition = Annotated[
    str | None, typer.Option(help="A condition, or a list: [3, 5].", show_default=False, metavar="VALUE")
]
Want = Annotated[float | None, typer.Option(help="Mean reward to reach.", show_default=False)]
Tilt = Annotated[float | None, typer.Option(help="Exponent on the reward.", show_default="by its spread")]
Steps = Annotated[int, typer.Option(help="Intervals of the time grid, at most.")]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance weight.")]
Process = Annotated[str, typer.Option(help="As in a file: sde, or {name: sde, interpolant: vp}.")]
HeldOut = Annotated[
    str | None, typer.Option(help="A reward that only looks at final samples.", show_default=False)
]
Trajectories = Annotated[int, typer.Option(help="Unguided trajectories of the pilot.")]
Save = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write a configuration, and the profile beside it.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]


def advise(
    model: Model,
    reward: Reward,
    budget: Budget,
    goal: Purpose = "sample",
    condition: Condition = None,
    want: Want = None,
    tilt: Tilt = None,
    steps: Steps = 50,
    guidance: Guidance = 1.0,
    process: Process = "sde",
    held_out: HeldOut = None,
    trajectories: Trajectories = 128,
    seed: Annotated[int, typer.Option(help="Of the pilot and of the runs.")] = 0,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Try a model and a reward on a few unguided samples; say which method and settings to use, and why."""
    from itscale.advice import advise as ask
    from itscale.advice.advised import check_suffix
    from itscale.advice.rules import Goal
    from itscale.runs import load_config

    with stdout_kept_clean():
        section = {"condition": _value("--condition", condition), "guidance": guidance}
        told: dict[str, Any] = {
            "model": {**_named("MODEL", model), **{k: v for k, v in section.items() if v not in (None, 1.0)}},
            "reward": _value("REWARD", reward) if reward.startswith(("[", "{")) else reward,
            "process": _value("--process", process),
            "run": {"steps": steps, "seed": seed, "budget": _limits(budget)},
        }
        if held_out is not None:
            told["held_out"] = held_out
        if save is not None:
            check_suffix(save)
        cell = load_config(told).cells[0]  # checks every name and option as a file's are, pool included
        assert cell.run.budget is not None
        found = ask(
            cell.model.load(),
            told["reward"],
            cell.run.budget,
            goal=cast(Goal, goal),
            tilt="auto" if tilt is None else tilt,
            want=want,
            condition=cell.model.condition,
            steps=steps,
            process=cast(Any, cell.process),
            guidance=cell.model.guidance,
            seed=seed,
            held_out=held_out,
            trajectories=trajectories,
            pool=cell.pool,
        )
        files = None if save is None else found.save(save, told["model"], told["reward"])
    if as_json:
        _print_document(found, found.recipe(told["model"], told["reward"], files and str(files[1])), files)
    else:
        _print_advice(found, files)


def _print_advice(found: Advice, files: tuple[Path, Path] | None) -> None:
    rows = [(name.replace("_", " "), value) for name, value in found.summary().items() if value is not None]
    print_table(("setting", "value"), rows, "Advice")
    for reason in found.reasons:
        print_line(f"- {reason}")
    if files is not None:
        print_line(f"\nprofile: {files[1]}\nrecipe:  {files[0]}, for itscale run {files[0]}")


def _print_document(found: Advice, recipe: dict[str, Any], files: tuple[Path, Path] | None) -> None:
    from dataclasses import asdict

    from itscale.runs.records import clean

    document = {
        **found.summary(),
        "seconds_per_row": found.seconds_per_row,
        "seconds_per_call": found.seconds_per_call,
        "reasons": found.reasons,
        "recipe": recipe,
        "profile": asdict(found.profile),
        "files": None if files is None else {"recipe": str(files[0]), "profile": str(files[1])},
    }
    print_json(clean(document))


def _value(where: str, text: str | None) -> Any:
    """Read an option as a configuration file has it."""
    from itscale.runs.documents import parse

    return None if text is None else parse(text, where)


def _named(where: str, text: str) -> dict[str, Any]:
    """Read a section that may be a bare name; a reference such as ``./file.py:name`` is no YAML mapping."""
    value = _value(where, text) if text.startswith("{") else text
    return value if isinstance(value, dict) else {"name": value}


def _limits(text: str) -> dict[str, Any]:
    """Read ``500`` or ``nfe=500,reward_calls=200``."""
    parts = [part.strip().partition("=") for part in text.split(",")]
    return {
        key if equals else "nfe": _value("--budget", value if equals else key) for key, equals, value in parts
    }
