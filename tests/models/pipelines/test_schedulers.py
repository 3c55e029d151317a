"""Every scheduler that has an equal here takes the latents of diffusers' own call to the same end."""

from __future__ import annotations

import diffusers
import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.models.pipelines import tiny
from tests.models.pipelines.setting import PROMPT, TOLERANCE, latents_of, sampled

STEPS = 5


def pipe_with(name, **settings):
    pipe = tiny.stable_diffusion()
    config = {k: v for k, v in pipe.scheduler.config.items() if not k.startswith("_")}
    pipe.scheduler = getattr(diffusers, name).from_config({**config, **settings})
    return pipe


def called(pipe, latents, steps=STEPS, guidance=7.5, **settings):
    done = pipe(
        PROMPT,
        latents=latents,
        num_images_per_prompt=len(latents),
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="latent",
        **settings,
    )
    return done.images


def agree(mine, theirs):
    size = max(1.0, float(theirs.abs().max()) / 10)  # random weights blow some latents up
    assert float((mine - theirs).abs().max()) <= TOLERANCE * size


DETERMINISTIC = [
    ("DDIMScheduler", {}),
    ("DDIMScheduler", {"set_alpha_to_one": True, "timestep_spacing": "trailing"}),
    ("DDIMScheduler", {"prediction_type": "v_prediction"}),
    ("DDIMScheduler", {"prediction_type": "sample"}),
    ("EulerDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("HeunDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"solver_order": 1}),
    ("DPMSolverMultistepScheduler", {"solver_type": "heun"}),
    ("UniPCMultistepScheduler", {}),
    ("PNDMScheduler", {"skip_prk_steps": True}),
    ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": True, "prediction_type": "v_prediction"}),
]


@pytest.mark.parametrize(("name", "settings"), DETERMINISTIC)
def test_scheduler_ends_where_the_pipeline_ends(name, settings):
    pipe = pipe_with(name, **settings)
    model = itscale.load(pipe)
    latents = latents_of(model)
    agree(sampled(model, latents, STEPS, guidance=7.5), called(pipe, latents))


def test_third_order_multistep_ends_where_the_pipeline_ends():
    pipe = pipe_with("DPMSolverMultistepScheduler", solver_order=3)
    model = itscale.load(pipe)
    latents = latents_of(model)
    agree(sampled(model, latents, 16, guidance=2.0), called(pipe, latents, 16, guidance=2.0))
    with pytest.raises(ConfigError, match="order 3"):
        sampled(model, latents, STEPS)


class Recorded:
    """The noises of a run, in the order in which a scheduler asks for its own."""

    def __init__(self, model, latents, monkeypatch):
        from itscale.noise import Noise

        self.noises, plain = [], Noise.normal

        def normal(noise, purpose, at, event, dtype):
            made = plain(noise, purpose, at, event, dtype)
            self.noises.append(made)
            return made

        monkeypatch.setattr(Noise, "normal", normal)
        self.end = sampled(model, latents, STEPS, guidance=3.0)
        monkeypatch.undo()

    def hand_out(self, *_, **__):
        return self.noises.pop(0)


STOCHASTIC = [
    ("DDPMScheduler", {}, "scheduling_ddpm"),
    ("EulerAncestralDiscreteScheduler", {}, "scheduling_euler_ancestral_discrete"),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "scheduling_dpmsolver_multistep"),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 1},
     "scheduling_dpmsolver_multistep"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "file"), STOCHASTIC)
def test_stochastic_scheduler_with_the_same_noise_ends_where_the_pipeline_ends(
    name, settings, file, monkeypatch
):
    pipe = pipe_with(name, **settings)
    model = itscale.load(pipe)
    latents = latents_of(model)
    mine = Recorded(model, latents, monkeypatch)
    assert len(mine.noises) == STEPS - 1
    mine.noises.append(torch.zeros_like(latents))  # at their last step some draw what they multiply by zero
    monkeypatch.setattr(getattr(diffusers.schedulers, file), "randn_tensor", mine.hand_out)
    agree(mine.end, called(pipe, latents, guidance=3.0))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("LMSDiscreteScheduler", {}, "LMSDiscreteScheduler has no equal"),
        ("PNDMScheduler", {"skip_prk_steps": False}, "skip_prk_steps=True|set it to True"),
        ("PNDMScheduler", {"skip_prk_steps": True, "timestep_spacing": "linspace"}, "'leading'"),
        ("DDIMScheduler", {"clip_sample": True}, "clip_sample"),
        ("DDIMScheduler", {"thresholding": True}, "thresholding"),
        ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}, "final_sigmas_type"),
        ("UniPCMultistepScheduler", {"predict_x0": False}, "predict_x0"),
        ("UniPCMultistepScheduler", {"solver_order": 3}, "solver_order 3"),
        ("DDPMScheduler", {"variance_type": "fixed_large"}, "variance_type"),
    ],
)
def test_settings_without_an_equal_are_refused(name, settings, message):
    model = itscale.load(pipe_with(name, **settings))
    with pytest.raises(ConfigError, match=message):
        sampled(model, latents_of(model), STEPS)


def test_scheduler_brings_its_process():
    model = itscale.load(pipe_with("DDIMScheduler"))
    with pytest.raises(ConfigError, match="leave process out"):
        sampled(model, latents_of(model), STEPS, process=itscale.SDE())
    with pytest.raises(ConfigError, match="adds none"):
        itscale.sample(model, reward=lambda images: images.mean((1, 2, 3)), n=2, solver="scheduler", steps=3)
    with pytest.raises(ConfigError, match="has none"):
        itscale.sample(itscale.load("digits"), n=1, solver="scheduler", steps=3)


def test_redrawn_noise_is_for_distilled_models():
    with pytest.raises(ConfigError, match="distilled"):
        itscale.sample(itscale.load("digits"), n=1, process=itscale.SDE(diffusion="renoise"), steps=3)
