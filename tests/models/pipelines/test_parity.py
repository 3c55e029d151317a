"""Every family ends where the pipeline's own call ends, in batches and alone; a tilt of 0 changes nothing."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.models.pipelines import FAMILIES
from itscale.models.pipelines.tiny import TINY
from tests.models.pipelines.calls import CALLS, STEPS, recorded
from tests.models.pipelines.setting import TOLERANCE, latents_of, pipe_of, sampled


def size_of(latents):
    """Random weights blow some latents up; errors are relative to a size of ten."""
    return max(1.0, float(latents.abs().max()) / 10)


def test_every_family_has_a_tiny_pipeline_and_a_call():
    assert set(TINY) == set(CALLS) == set(FAMILIES)


@pytest.mark.parametrize("family", CALLS)
def test_family_ends_where_its_pipeline_ends(family, monkeypatch):
    pipe, call = pipe_of(family), CALLS[family]
    model = itscale.load(pipe, **call.options)
    latents = latents_of(model)
    mine, noises = recorded(lambda: sampled(model, latents, STEPS, **call.settings), monkeypatch)
    theirs = call(pipe, latents, noises, monkeypatch)
    assert theirs.shape == mine.shape
    assert float((mine - theirs).abs().max()) <= TOLERANCE * size_of(theirs)
    assert float((mine - latents).abs().max()) > 0.01  # and something has happened


@pytest.mark.parametrize("family", CALLS)
def test_particles_do_not_depend_on_their_batch(family):
    call = CALLS[family]
    model = itscale.load(pipe_of(family), **call.options)
    settings = {**call.settings, "solver": "ddim", "process": itscale.ODE()}
    latents = latents_of(model)
    whole = sampled(model, latents, 2, **settings)
    alone = torch.cat([sampled(model, x[None], 2, **settings) for x in latents])
    assert float((whole - alone).abs().max()) <= 2e-5 * size_of(whole)


@pytest.mark.parametrize("family", CALLS)
def test_smc_without_a_tilt_is_unguided(family, monkeypatch):
    call = CALLS[family]
    model = itscale.load(pipe_of(family), **call.options)
    settings = {**call.settings, "n": 3, "steps": 3, "seed": 4}
    settings.setdefault("condition", "a red cube")
    process = itscale.SDE(diffusion="renoise") if model.distilled else itscale.SDE()
    plain, noises = recorded(lambda: itscale.sample(model, process=process, **settings), monkeypatch)
    # SMC counts its resampling as a random act, so its own noises stand at other addresses
    monkeypatch.setattr("itscale.noise.Noise.normal", lambda *_: noises.pop(0))
    steered = itscale.sample(
        model, reward=lambda samples: samples.flatten(1).mean(1), method="smc", tilt=0.0, **settings
    )
    assert not noises
    assert torch.equal(plain.states, steered.states)
    assert float(steered.log_weights.abs().max()) == 0
    low = 1 if model.modality == "video" else 0
    assert steered.samples.shape[2:][low] == 3
    assert 0 <= float(steered.samples.min()) <= float(steered.samples.max()) <= 1
