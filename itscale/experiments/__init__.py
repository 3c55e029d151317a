"""The experiments and recipes that come with itscale.

The files live in the top-level folder ``experiments/`` of the repository, and in
``itscale/_bundled/experiments`` of an installed wheel; ``FOLDER`` is the one in use.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE.parent / "_bundled" / "experiments", _HERE.parent.parent / "experiments")

FOLDER: Path = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
"""Where recipes and experiment files are."""

__path__.append(str(FOLDER))

__all__ = ["FOLDER"]
