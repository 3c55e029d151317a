"""The built-in rewards: ``BUILT_IN`` lists them, ``itscale.rewards.Symmetry(axis="v")`` makes one.

The files live in the top-level folder ``rewards/`` of the repository, one reward each, and in
``itscale/_bundled/rewards`` of an installed wheel. This package finds them there, so that they have
one name, ``itscale.rewards.symmetry``, and a user's own ``rewards.py`` is never in the way.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
for _folder in (_HERE.parent / "_bundled" / "rewards", _HERE.parent.parent / "rewards"):
    if (_folder / "table.py").is_file():
        __path__.append(str(_folder))
        break

from itscale.rewards.table import BUILT_IN, BuiltIn  # noqa: E402 # pyright: ignore[reportMissingImports]

_CLASSES = {entry.target.partition(":")[2]: entry.target for entry in BUILT_IN.values()}

__all__ = ["BUILT_IN", "BuiltIn", *_CLASSES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import the file of a class on first use."""
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _CLASSES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_CLASSES])
