"""Which room may use which: imports point down, and none go round."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the top of the house to the ground. A room may use every floor below its own; a folder's files may use
# each other. Lazy imports inside functions count as well; imports for type checkers do not.
FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(floor.split())
    for floor in (
        "cli experiments",
        "advice",
        "verify runs active",
        "verify runs clusters",
        "sampling compose",
        "preparation translation bottleneck diagnostics denoising_mcmc minority inbetweening",
        "token_setup checks",
        "methods",
        "engine",
        "pools guides ascent values scheduled",
        "potentials solvers decoders",
        "process result",
        "models rewards particles",
        "grids operators remote",
        "vision",
        "interpolants scoring noise",
        "networks budget pictures",
        "types scenes task_pool",
        "errors allocator",
    )
)
HEIGHT = {room: -i for i, floor in enumerate(FLOORS) for room in floor}
PUBLIC_NAMES_OF_ROOT = {"__version__"}


def module_name(path: Path) -> str:
    """The dotted name a file is imported by; ``rewards/`` and ``experiments/`` are installed inside."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "itscale" else ("itscale", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files() -> dict[str, Path]:
    """Every module, by name."""
    tops = ("itscale", "rewards", "experiments")
    return {module_name(path): path for top in tops for path in sorted((ROOT / top).rglob("*.py"))}


FILES = source_files()


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def nodes(tree: ast.AST, inside_functions: bool) -> Iterator[ast.AST]:
    """Walk a tree without what only type checkers read, and without function bodies if they do not count."""
    for child in ast.iter_child_nodes(tree):
        if is_for_type_checkers(child):
            yield from (n for part in child.orelse for n in [part, *nodes(part, inside_functions)])
            continue
        if not inside_functions and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from nodes(child, inside_functions)


def imports(tree: ast.AST, module: str, is_package: bool, inside_functions: bool = True) -> Iterator[str]:
    """Names of modules of itscale that a file imports, as deep as they are known."""
    package = module if is_package else module.rpartition(".")[0]
    for node in nodes(tree, inside_functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "itscale")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            if base.split(".")[0] == "itscale":
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    if base == "itscale" and alias.name in PUBLIC_NAMES_OF_ROOT:
                        continue
                    yield inner if inner in FILES or base == "itscale" else base


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def complaints(module: str, imported: list[str]) -> list[str]:
    """What a file imports that its room may not use."""
    own = room(module)
    if own == "":
        return [f"{module} uses {name}" for name in imported]  # the face of the package loads nothing
    return [
        f"{module} uses {name}"
        for name in imported
        if room(name) != own and not HEIGHT.get(room(name), 1) < HEIGHT[own]
    ]


def imports_of(module: str, inside_functions: bool = True) -> list[str]:
    path = FILES[module]
    return list(imports(ast.parse(path.read_text()), module, path.name == "__init__.py", inside_functions))


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_down(module):
    assert room(module) == "" or room(module) in HEIGHT, f"give {module} a floor in FLOORS"
    assert complaints(module, imports_of(module)) == []


def test_no_import_goes_round():
    graph = {module: {n for n in imports_of(module, False) if n in FILES} for module in FILES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("itscale.models.base", "from itscale.process import ODE", 1),
        ("itscale.models.base", "def f():\n    import itscale.sampling", 1),
        ("itscale.models.base", "from itscale import process", 1),
        ("itscale.models.base", "from ..engine import Engine", 1),
        ("itscale.models.base", "from .analytic import GaussianMixture", 0),
        (
            "itscale.models.base",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from itscale.runs import run",
            0,
        ),
        ("itscale.grids", "from itscale.particles import resample", 1),
        ("itscale.solvers.base", "from itscale.potentials import Difference", 1),
        ("itscale.solvers.base", "from itscale.models.base import Model", 0),
        ("itscale", "import itscale.errors", 1),
    ],
)
def test_the_check_itself_finds_imports_that_point_up(module, source, expected):
    assert len(complaints(module, list(imports(ast.parse(source), module, False)))) == expected
