"""The battery's checks of compositions pass, and fail for what is sampled without its weights."""

from __future__ import annotations

import dataclasses

import pytest

from itscale.verify import composed
from itscale.verify.composed import composed_laws, problems


@pytest.mark.slow
def test_every_composition_passes():
    assert [c for c in composed_laws(particles=128, groups=32, quick=False) if not c.passed] == []


@pytest.mark.parametrize("name", ["product", "guidance 3"])
def test_the_shortcut_fails(name, monkeypatch):
    law = next(p for p in problems() if p.name == name)
    plain = law.law.corrected(gauge="none") if name == "product" else law.law
    wrong = dataclasses.replace(law, law=plain, setting={"method": "unguided"})
    monkeypatch.setattr(composed, "problems", lambda: [wrong])
    assert not all(c.passed for c in composed_laws(particles=256, groups=32, quick=False))
