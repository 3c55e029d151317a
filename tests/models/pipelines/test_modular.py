"""Pipelines of modular blocks: the same as an adapter of the family, and errors where they cannot be read."""

from __future__ import annotations

import diffusers
import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.models.pipelines import tiny
from tests.models.pipelines.setting import PROMPT, latents_of, pipe_of, sampled

SIZE = {"height": 32, "width": 32}


def modular_flux():
    pipe = diffusers.modular_pipelines.FluxAutoBlocks().init_pipeline()
    parts = pipe_of("flux").components
    pipe.update_components(**{name: part for name, part in parts.items() if name in pipe.components})
    return pipe


def test_blocks_do_what_the_family_s_adapter_does():
    mine = itscale.load(modular_flux(), **SIZE, arguments={"guidance_scale": 5.0})
    theirs = itscale.load(pipe_of("flux"), **SIZE).given(None, 5.0)
    latents = latents_of(mine, 2)
    states = [sampled(model, latents, 3) for model in (mine, theirs)]
    torch.testing.assert_close(*states)
    torch.testing.assert_close(mine.decode(states[0]), theirs.decode(states[0]))


def test_gradients_go_through_blocks():
    model = itscale.load(pipe_of("modular"), **SIZE)
    result = itscale.sample(
        model, reward="brightness", method="tds", particles=2, steps=2, condition=PROMPT, tilt=1.0
    )
    assert result.spent.backward_rows > 0


def test_an_unknown_release_is_refused(monkeypatch):
    monkeypatch.setattr(diffusers, "__version__", "0.99.1")
    with pytest.raises(ConfigError, match=r"for diffusers 0\.42, and this is 0\.99\.1.*write an adapter"):
        itscale.load(pipe_of("modular"), **SIZE)


def test_what_blocks_cannot_do_is_refused():
    with pytest.raises(ConfigError, match="decode by themselves"):
        itscale.load(pipe_of("modular"), **SIZE, decoder="preview")
    pipe = tiny.modular()
    pipe.update_components(scheduler=diffusers.DDIMScheduler())
    with pytest.raises(ConfigError, match="for flows alone"):
        itscale.load(pipe, **SIZE)
