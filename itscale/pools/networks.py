"""Neural networks on their way to shards: once, however many runs use them."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable
from typing import Any

import torch.nn

from itscale.pools import wire
from itscale.pools.crew import Crew


def with_networks(crew: Crew, factory: Callable[..., Any]) -> tuple[bytes, list[str], list[Any]]:
    """The factory as a message, and the neural networks in it, which travel once for all runs."""
    keys: list[str] = []
    refs: list[Any] = []

    def naming(value: Any) -> Any:
        if not isinstance(value, torch.nn.Module):
            return None
        key, ref = _network(crew, value)
        if key not in keys:
            keys.append(key)
            refs.append(ref)
        return key

    return wire.dumps_any(factory, naming), keys, refs


def _network(crew: Crew, module: Any) -> tuple[str, Any]:
    """A network's name and reference; one that has changed since is another."""
    state = tuple(t._version for t in (*module.parameters(), *module.buffers()))
    mark = (state, module.training)
    known = crew.networks.get(id(module))
    if known is not None and known[0]() is module and known[1] == mark:
        return known[2], known[3]
    key = uuid.uuid4().hex
    ref = crew.ray.put(wire.dumps_any(module))
    crew.networks[id(module)] = (weakref.ref(module), mark, key, ref)
    return key, ref
