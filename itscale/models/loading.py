"""``load``: a bundled model by name."""

from __future__ import annotations

from itscale.errors import ConfigError, UnknownName, did_you_mean
from itscale.models.base import Model
from itscale.models.bundled import BUNDLED


def load(name: str) -> Model:
    """Load a bundled model, on the CPU.

    Args:
        name: a name that ``itscale models`` lists.

    Raises:
        UnknownName: for any other text, a path included.
        ConfigError: for anything but a text.
    """
    if not isinstance(name, str):
        raise ConfigError(
            f"load takes the name of a bundled model ({', '.join(BUNDLED)}), got {type(name).__name__}; "
            "make a model of a network with itscale.models.wrap"
        )
    key = name.strip().lower().replace("_", "-")
    if key not in BUNDLED:
        raise UnknownName(
            f"unknown model {name!r}.{did_you_mean(key, BUNDLED)} Bundled: {', '.join(sorted(BUNDLED))}. "
            "Make a model of a network of your own with itscale.models.wrap"
        )
    return BUNDLED[key].load()
