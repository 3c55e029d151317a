"""Potentials: one log-weight increment each."""

from itscale.errors import ConfigError, unknown_name
from itscale.potentials.base import Potential
from itscale.potentials.path import Difference, Max, Sum, Value
from itscale.potentials.tempered import Tempered

POTENTIALS: dict[str, type] = {"difference": Difference, "max": Max, "sum": Sum, "value": Value}


def get_potential(value: str | Potential) -> Potential:
    """Return a potential by name or pass one through."""
    if isinstance(value, str):
        if value not in POTENTIALS:
            raise unknown_name("potential", value, POTENTIALS)
        return POTENTIALS[value]()
    if not callable(value):
        raise ConfigError(f"potential must be a name or a potential, got {value!r}")
    return value


__all__ = ["POTENTIALS", "Difference", "Max", "Potential", "Sum", "Tempered", "Value", "get_potential"]
