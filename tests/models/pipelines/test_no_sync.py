"""Between the network calls of a step nothing waits for the device.

The states of a run lie on the meta device, which has shapes and no values: what would ask it for a number
raises. A copy from the host that waits for what is under way is a decision of its own, and is recorded.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import itscale
from itscale.engine import Engine
from itscale.models.pipelines import tiny
from itscale.pools import Local
from tests.engine.setting import make_engine
from tests.models.pipelines.calls import CALLS
from tests.models.pipelines.setting import pipe_of

N, STEPS = 2, 2


class Waits(TorchDispatchMode):
    """Records blocking copies between the host and a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in COPIES:
            source = args[1] if func is torch.ops.aten.copy_.default else args[0]
            to = args[0].device if func is torch.ops.aten.copy_.default else kwargs.get("device")
            waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
            if to is not None and torch.device(to) != source.device and source.ndim and waits:
                self.found.append(f"{func}: {source.device} to {to}, {tuple(source.shape)}")
        return func(*args, **kwargs)


COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


def engine_of(family: str, monkeypatch: Any, **settings: Any) -> Engine:
    """An engine whose worker is on the meta device; prompts are embedded on the host, before a run."""
    call = CALLS[family]
    condition = call.settings.get("condition", "a red cube")
    model, twin = (itscale.load(pipe, **call.options) for pipe in (tiny.TINY[family](), pipe_of(family)))
    embed = type(twin).embed

    def embedded(_: Any, request: Any) -> dict[str, Any]:
        return {name: value.to("meta") for name, value in embed(twin, request).items()}

    monkeypatch.setattr(type(twin), "embed", embedded)
    return make_engine(
        model,
        None,
        steps=STEPS,
        method="unguided",
        n=N,
        guidance=call.settings.get("guidance", 1.0),
        conditions=[condition, condition + 1 if isinstance(condition, int) else None],
        pool=Local(device="meta", microbatch=8),
        **settings,
    )


@pytest.mark.parametrize(
    "family",
    [name for name in CALLS if name != "modular"],  # whose blocks make what they share on the device
)
def test_steps_do_not_wait(family, monkeypatch):
    distilled = "consistency" in family
    engine = engine_of(
        family, monkeypatch, process=itscale.SDE(diffusion="renoise" if distilled else "natural")
    )
    p = engine.propose(engine.look(engine.start(N)), children=2)  # the first step makes what others reuse
    with Waits() as waits:
        p = engine.propose(engine.look(p))
        engine.pool.worker.decode(p.rows.x)
    assert p.rows.x.device.type == "meta"
    assert not waits.found


def test_gathering_does_not_wait(monkeypatch):
    engine = engine_of("stable-diffusion", monkeypatch, solver="scheduler")
    p = engine.look(engine.start(N))
    with Waits() as waits:
        p = engine.propose(p.take(torch.zeros(2, N, dtype=torch.int64)))
    assert not waits.found


def test_a_wait_would_be_noticed():
    x = torch.zeros(3, device="meta")
    with Waits() as waits:
        torch.zeros(3).to("meta")
        torch.zeros(3).to("meta", non_blocking=True)
    assert len(waits.found) == 1
    with pytest.raises(Exception, match="meta"):
        bool((x > 0).any())
