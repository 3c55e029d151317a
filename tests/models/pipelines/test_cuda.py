"""On CUDA every family gives what it gives on the host, and its steps do not wait for the device."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.models.pipelines.tiny import TINY
from itscale.pools import Local
from tests.engine.setting import make_engine
from tests.models.pipelines.calls import CALLS, STEPS
from tests.models.pipelines.setting import latents_of, pipe_of, sampled

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TOLERANCE = 1e-3
"""On latents of size 10: convolutions sum in another order there; TF32 is switched off."""


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.mark.parametrize("family", CALLS)
def test_family_ends_where_it_ends_on_the_host(family):
    call = CALLS[family]
    here, there = (itscale.load(pipe, **call.options) for pipe in (TINY[family](), pipe_of(family)))
    settings = {**call.settings, "solver": "ddim", "process": itscale.ODE()}
    latents = latents_of(here)
    host = sampled(here, latents, STEPS, **settings, pool=Local(device="cpu"))
    device = sampled(there, latents, STEPS, **settings, pool=Local(device="cuda"))
    assert float((host - device).abs().max()) <= TOLERANCE * max(1.0, float(host.abs().max()) / 10)


@pytest.mark.parametrize("family", CALLS)
def test_steps_do_not_wait(family):
    call = CALLS[family]
    condition = call.settings.get("condition", "a red cube")
    distilled = "consistency" in family
    engine = make_engine(
        itscale.load(pipe_of(family), **call.options),
        None,
        steps=3,
        method="unguided",
        n=3,
        guidance=call.settings.get("guidance", 1.0),
        conditions=[condition, condition + 1 if isinstance(condition, int) else None],
        process=itscale.SDE(diffusion="renoise" if distilled else "natural"),
        pool=Local(device="cuda", microbatch=8),
    )
    p = engine.propose(engine.look(engine.start(3)))  # the first step makes what others reuse
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        p = engine.propose(engine.look(p), children=2)
        p = p.take(torch.zeros(2, 3, dtype=torch.int64))
        p = engine.look(p)
        engine.pool.worker.decode(p.rows.x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
