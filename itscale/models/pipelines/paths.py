"""What a diffusers scheduler says of the path that its network was trained on."""

from __future__ import annotations

from typing import Any, Literal

import torch

from itscale.errors import ConfigError
from itscale.interpolants import EDM, Interpolant, Linear, Table

SMALLEST = 2.0**-24
"""In place of an alpha_bar of 0: the last one of tables that are rescaled to end in pure noise."""

PREDICTS: dict[str, Literal["velocity", "noise", "denoised", "v"]] = {
    "epsilon": "noise",
    "sample": "denoised",
    "v_prediction": "v",
    "flow_prediction": "velocity",
}


def is_flow(scheduler: Any) -> bool:
    """Whether times are those of a flow on the straight path."""
    config = scheduler.config
    flows = type(scheduler).__name__.startswith("FlowMatch") or bool(config.get("use_flow_sigmas", False))
    return flows or config.get("prediction_type") == "flow_prediction"


def path_of(scheduler: Any) -> Interpolant:
    """The path, in itscale's time.

    Raises:
        ConfigError: for a scheduler that states none.
    """
    if is_flow(scheduler):
        return Linear()
    if (bars := getattr(scheduler, "alphas_cumprod", None)) is not None:
        values = torch.as_tensor(bars, dtype=torch.float64).clamp_min(SMALLEST)
        return Table(tuple(values.tolist()))
    config = scheduler.config
    if "sigma_min" in config and "sigma_max" in config:
        return EDM(sigma_max=float(config["sigma_max"]), sigma_min=float(config["sigma_min"]))
    raise ConfigError(
        f"{type(scheduler).__name__} states no noise levels (alphas_cumprod, sigma_min and sigma_max, or "
        "flow "
        "times); give the pipeline another scheduler with SCHEDULER.from_config(pipe.scheduler.config)"
    )


def prediction_of(scheduler: Any) -> Literal["velocity", "noise", "denoised", "v"]:
    """What the network returns; a flow's velocity has its sign turned round by the adapter.

    Raises:
        ConfigError: for a prediction type that is not known.
    """
    if is_flow(scheduler):
        return "velocity"
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind not in PREDICTS:
        raise ConfigError(f"the scheduler says prediction_type {kind!r}; known are {', '.join(PREDICTS)}")
    return PREDICTS[kind]
