"""The battery's checks of masked models pass, and fail for a method that breaks its claim."""

from __future__ import annotations

import dataclasses

import torch

from itscale.methods import SMC
from itscale.verify import masked
from itscale.verify.masked import MaskedEntrant, masked_laws


def test_every_masked_entrant_passes():
    checks = masked_laws(particles=64, groups=48, quick=False)
    assert len(checks) > 2 * len(masked.ENTRANTS) - 2
    assert [c for c in checks if not c.passed] == []


def test_dropped_weights_fail(monkeypatch):
    class Dropping(SMC):
        """Forget the weights after every step."""

        def step(self, engine, state):
            done = super().step(engine, state)
            if done.is_done:
                return done
            p = done.particles
            return dataclasses.replace(
                done, particles=dataclasses.replace(p, log_weights=torch.zeros_like(p.log_weights))
            )

    monkeypatch.setattr(masked, "ENTRANTS", (MaskedEntrant("dropping", Dropping(), powers=(0.7, 0.6)),))
    checks = masked_laws(particles=64, groups=48, quick=False)
    assert not any(c.passed for c in checks if c.quantity in ("E[r]", "log Z"))
