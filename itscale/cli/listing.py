"""``itscale rewards|methods|models|solvers|values``: tables of names, and the page of one name."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from itscale.cli.output import print_json, print_line, print_table

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Show everything about one.", show_default=False)
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]


def rewards(name: Name = None) -> None:
    """List the rewards: built in, and offered by installed packages."""
    from itscale.cli.extras import missing_from, pip_line
    from itscale.scoring import names

    if name is not None:
        _reward_page(name)
        return
    rows, table = [], names.built_in()
    for key in names.known_names():
        facts = table[key].facts if key in table else {"doc": "from another package"}
        extra = facts.get("extra")
        is_absent = bool(extra and missing_from(extra))
        rows.append(
            (
                key,
                facts.get("modality", "any"),
                bool(facts.get("differentiable")) if key in table else None,
                extra,
                f"no: {pip_line(str(extra))}" if is_absent else "yes",
                _files_of(key),
                facts.get("doc", ""),
            )
        )
    columns = ("reward", "modality", "gradient", "extra", "installed", "files", "what")
    print_table(columns, rows)


def methods(name: Name = None) -> None:
    """List the methods: what law their output follows, what they need and cost."""
    from itscale.methods import METHODS

    if name is not None:
        _class_page("method", name, METHODS, "itscale methods")
        return
    rows = [
        (
            key,
            str(entry().claim),
            entry().claim.evidence or "none",
            entry().needs.gradient,
            _cost(entry),
            _first_line(entry),
        )
        for key, entry in METHODS.items()
    ]
    print_table(("method", "target", "evidence", "needs gradient", "cost", "what"), rows)


def solvers(name: Name = None, as_json: Json = False) -> None:
    """List the solvers: order, network evaluations per step, memory."""
    from itscale.solvers import ALIASES, SOLVERS

    if name is not None and not as_json:
        _class_page("solver", ALIASES.get(name, name), SOLVERS, "itscale solvers")
        return
    facts = [_solver_facts(key) for key in SOLVERS]
    if as_json:
        if name is not None:
            key = _key_of("solver", ALIASES.get(name, name), SOLVERS, "itscale solvers")
            facts = next(f for f in facts if f["solver"] == key) | {"options": _options(SOLVERS[key])}
        print_json(facts)
        return
    rows = [
        (
            ", ".join([f["solver"], *f["aliases"]]),
            f["solves"],
            f["order"],
            f["nfe_per_step"],
            f["history"],
            f["stochastic"],
            f["gaussian_transition"],
            f["what"],
        )
        for f in facts
    ]
    columns = (
        "solver",
        "solves",
        "order",
        "NFE per step",
        "memory",
        "stochastic",
        "Gaussian transition",
        "what",
    )
    print_table(columns, rows)


def values(name: Name = None) -> None:
    """List the values: how a state before the last look is scored, and what a score costs."""
    from itscale.values import VALUES

    if name is not None:
        _class_page("value", name, VALUES, "itscale values")
        return
    rows = [(key, _cost(entry), _first_line(entry)) for key, entry in VALUES.items()]
    print_table(("value", "cost of a score", "what"), rows)
    print_line("In a configuration: value: NAME; in Python: itscale.sample(..., value=NAME or an object)")


def models(name: Name = None) -> None:
    """List the models that need no download."""
    from itscale.models import BUNDLED
    from itscale.runs.rooms import MODELS

    if name is not None:
        _model_page(name, MODELS)
        return
    rows = [(key, BUNDLED[key].description if key in BUNDLED else _first_line(MODELS[key])) for key in MODELS]
    print_table(("model", "what"), rows)
    print_line("A network of your own: itscale.models.wrap(module, predicts=, interpolant=, event_shape=)")


def _reward_page(name: str) -> None:
    from itscale.cli.extras import missing_from, pip_line
    from itscale.scoring import as_reward, names

    table = names.built_in()
    key = names.canonical(name)
    if not names.is_known(key):
        raise names.unknown(name)
    entry = names.load(key)
    facts: dict[str, Any] = dict(table[key].facts) if key in table else {}
    if not facts and not inspect.isclass(entry):
        facts = dataclasses.asdict(as_reward(entry).spec)
    print_line(key)
    _print_doc(entry)
    print_table(("fact", "value"), [(k, v) for k, v in facts.items() if v is not None and k != "doc"])
    _print_options(entry)
    extra = facts.get("extra")
    if extra and missing_from(extra):
        print_line(f"not installed: {pip_line(extra)}")
    _print_weights(key)
    print_line(f"itscale check-reward {key} tries its promises")


def _files_of(key: str) -> str | None:
    """Whether the files of a learned reward are where they are looked for; None if it needs none."""
    from itscale.scoring import names

    table = names.built_in()
    needs = table[key].weights if key in table else ()
    if not needs:
        return None
    return "found" if needs[0].is_found() else "not found"


def _print_weights(key: str) -> None:
    """Print which files a learned reward reads, where they are looked for, and whether they are there."""
    from itscale.scoring import names

    table = names.built_in()
    needs = table[key].weights if key in table else ()
    rows = [
        (
            w.argument,
            ", ".join(name.replace("|", " or ") for name in w.files),
            ", ".join(map(str, w.places())),
            w.is_found(),
            w.hub,
            w.licence,
        )
        for w in needs
    ]
    if rows:
        print_table(("argument", "files", "looked for in", "found", "hub", "licence"), rows, "weights")


def _solver_facts(key: str) -> dict[str, Any]:
    """What a solver is with its default options."""
    from itscale.solvers import ALIASES, SOLVERS

    entry, solver = SOLVERS[key], SOLVERS[key]()
    return {
        "solver": key,
        "aliases": [alias for alias, known in ALIASES.items() if known == key],
        "solves": "SDE" if solver.is_stochastic else "ODE",
        "order": solver.order,
        "nfe_per_step": solver.evaluations,
        "history": solver.history,
        "stochastic": solver.is_stochastic,
        "gaussian_transition": solver.gaussian,
        "what": _first_line(entry),
    }


def _model_page(name: str, table: Mapping[str, Any]) -> None:
    from importlib import resources

    from itscale.errors import unknown_name

    key = name.strip().lower().replace("_", "-")
    if key not in table:
        raise unknown_name("model", name, table)
    card = resources.files("itscale.networks") / "cards" / f"{key}.md"
    if card.is_file():
        print_line(card.read_text(encoding="utf-8"))
    else:
        print_line(key)
        _print_doc(table[key])
    _print_options(table[key])


def _class_page(kind: str, name: str, table: Mapping[str, Any], list_with: str) -> None:
    key = _key_of(kind, name, table, list_with)
    print_line(f"{key} ({table[key].__name__})")
    _print_doc(table[key])
    _print_options(table[key])


def _key_of(kind: str, name: str, table: Mapping[str, Any], list_with: str) -> str:
    from itscale.errors import unknown_name

    key = name.strip().lower().replace("_", "-")
    if key not in table:
        raise unknown_name(kind, name, table, list_with)
    return key


def _print_doc(entry: Any) -> None:
    print_line(inspect.getdoc(entry) or "")
    print_line()


def _print_options(entry: Any) -> None:
    """Print the parameters that a configuration may set."""
    rows = [(o["option"], o["default"], o["type"]) for o in _options(entry)]
    if rows:
        print_table(("option", "default", "type"), rows)


def _options(entry: Any) -> list[dict[str, str]]:
    empty = inspect.Parameter.empty
    return [
        {
            "option": p.name,
            "default": "required" if p.default is empty else repr(p.default),
            "type": "" if p.annotation is empty else str(p.annotation),
        }
        for p in inspect.signature(entry).parameters.values()
        if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]


def _first_line(entry: Any) -> str:
    return (inspect.getdoc(entry) or "").partition("\n")[0]


def _cost(entry: Any) -> str:
    """The sentence after ``Cost`` in a docstring."""
    text = " ".join((inspect.getdoc(entry) or "").split())
    found = re.search(r"\bCost(?: [^:.]*)?: (.+?)[.;](?: |$)", text)
    return found[1] if found else "see its page"
