"""Values: how a state before the last look is scored. One file each, one line each in the table."""

from itscale.errors import ConfigError, unknown_name
from itscale.values.base import DENOISED_COST, Forecast, ScoreCost, Sight, Unseen, Value
from itscale.values.completions import Completions, Tabulated
from itscale.values.denoised import Denoised
from itscale.values.flow_map import FlowMap
from itscale.values.learned import Learned
from itscale.values.look_ahead import LookAhead
from itscale.values.many_sample import ManySample
from itscale.values.soft_mean import certainty_equivalent

VALUES: dict[str, type] = {
    "denoised": Denoised,
    "look-ahead": LookAhead,
    "many-sample": ManySample,
    "flow-map": FlowMap,
    "learned": Learned,
    "completions": Completions,
}


def get_value(value: str | Value) -> Value:
    """Return a value by name or pass one through."""
    if isinstance(value, str):
        name = value.lower().replace("_", "-")
        if name not in VALUES:
            raise unknown_name("value", value, VALUES)
        if name == "flow-map":
            raise ConfigError("flow-map needs its map: value=values.FlowMap(map)")
        if name == "learned":
            raise ConfigError("learned needs its file: value=values.Learned(path)")
        return VALUES[name]()
    if not hasattr(value, "build"):
        raise ConfigError(f"value must be a name or a value such as ManySample(samples=4), got {value!r}")
    return value


__all__ = [
    "DENOISED_COST",
    "VALUES",
    "Completions",
    "Denoised",
    "FlowMap",
    "Forecast",
    "Learned",
    "LookAhead",
    "ManySample",
    "ScoreCost",
    "Sight",
    "Tabulated",
    "Unseen",
    "Value",
    "certainty_equivalent",
    "get_value",
]
