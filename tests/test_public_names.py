"""Public names lead where they should, whatever was imported before, and importing stays light."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import itscale

HEAVY = ("diffusers", "transformers", "open_clip", "ray", "rdkit", "matplotlib", "scipy")
MODULES = {name for name in itscale.__all__ if isinstance(getattr(itscale, name), ModuleType)}
ROOMS = [name for name in sorted(MODULES) if hasattr(getattr(itscale, name), "__path__")]


@pytest.mark.parametrize("name", itscale.__all__)
def test_name_is_the_same_when_touched_again_with_every_file_loaded(name):
    first = getattr(itscale, name)
    for module in pkgutil.iter_modules(itscale.__path__):
        importlib.import_module(f"itscale.{module.name}")
    assert getattr(itscale, name) is first
    assert isinstance(first, ModuleType) == (name in MODULES)


def test_unknown_name_raises_with_the_closest():
    with pytest.raises(AttributeError, match="did you mean 'sample'"):
        _ = itscale.sampel


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_of_a_room_bears_the_name_of_one_of_its_functions(room):
    package = getattr(itscale, room)
    public = getattr(package, "__all__", ())
    functions = {name for name in public if inspect.isroutine(getattr(package, name))}
    files = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert functions & files == set()


def test_no_module_bears_the_name_of_a_public_function():
    functions = {name for name in itscale.__all__ if inspect.isroutine(getattr(itscale, name))}
    assert functions & {module.name for module in pkgutil.iter_modules(itscale.__path__)} == set()


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after some code."""
    probe = f"{code}\nimport sys\nprint(*sorted(name for name in sys.modules if '.' not in name))"
    root = Path(itscale.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", probe], cwd=root, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_no_library():
    assert loaded_after("import itscale").isdisjoint(
        {"torch", "numpy", "typer", "rich", "pydantic", "yaml", *HEAVY}
    )


def test_sampling_loads_torch_and_numpy_but_no_optional_library():
    loaded = loaded_after("import itscale; itscale.sample")
    assert "torch" in loaded
    assert loaded.isdisjoint({"typer", "rich", "pydantic", *HEAVY})
