"""Weights that ship inside the package."""

from __future__ import annotations

from importlib import resources
from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def with_weights(network: Network, name: str) -> Network:
    """Fill a network with its shipped float16 weights, in float32, ready for inference only."""
    from safetensors.torch import load_file

    with resources.as_file(resources.files("itscale.networks") / "weights" / f"{name}.safetensors") as path:
        # copied into the network's float32 parameters, which widens float16
        network.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False)
