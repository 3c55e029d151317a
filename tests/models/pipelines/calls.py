"""How diffusers itself makes latents with every tiny pipeline, from given latents and noises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor

from itscale.noise import Noise
from tests.models.pipelines.setting import PROMPT

STEPS = 4
NEGATIVE = "grey fog"


@dataclass(frozen=True)
class Call:
    """One pipeline's call.

    Attributes:
        run: ``run(pipe, latents)`` returns final latents; None calls the pipeline with ``arguments``.
        options: of the adapter.
        settings: of ``itscale.sample`` that say the same.
        noisy: the scheduler's file, where it draws noise.
        variant: makes another pipeline than the family's.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    run: Callable[[Any, Tensor], Tensor] | None = None
    noisy: str | None = None

    def __call__(self, pipe: Any, latents: Tensor, noises: list[Tensor], monkeypatch: Any) -> Tensor:
        """Final latents of the pipeline's own call."""
        if self.noisy is not None:
            rest = [*noises, torch.zeros_like(latents)]  # some draw at the last step what they do not use
            file = getattr(diffusers.schedulers, self.noisy)
            monkeypatch.setattr(file, "randn_tensor", lambda *_, **__: rest.pop(0))
        if self.run is not None:
            return self.run(pipe, latents)
        arguments = {"num_inference_steps": STEPS, "latents": latents, "output_type": "latent"}
        if self.arguments.get("num_images_per_prompt", True) is not None:
            arguments["num_images_per_prompt"] = len(latents)
        given = {k: v for k, v in self.arguments.items() if v is not None}
        found = pipe(**{**arguments, **given})
        return found.images if hasattr(found, "images") else found.frames


def recorded(sample: Callable[[], Any], monkeypatch: Any) -> tuple[Any, list[Tensor]]:
    """What a run of itscale returns, and the noises that it drew."""
    noises: list[Tensor] = []
    plain = Noise.normal

    def normal(*args: Any) -> Tensor:
        noises.append(plain(*args))
        return noises[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Noise, "normal", normal)
        return sample(), noises


def unconditional(pipe: Any, latents: Tensor) -> Tensor:
    """The loop of DDPMPipeline from given noise, which its call cannot take."""
    pipe.scheduler.set_timesteps(STEPS)
    x = latents
    with torch.no_grad():
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.step(pipe.unet(x, t).sample, t, x).prev_sample
    return x


def dit(pipe: Any, latents: Tensor) -> Tensor:
    """DiTPipeline with its draw replaced, and its decoder by nothing: it returns only pictures."""
    import diffusers.pipelines.dit.pipeline_dit as file

    class Kept:
        config = pipe.vae.config

        def decode(self, z: Tensor) -> Any:
            self.z = z
            return type("Found", (), {"sample": torch.zeros(len(z), 3, 2, 2)})

    kept, vae, draw = Kept(), pipe.vae, file.randn_tensor
    try:
        pipe.vae, file.randn_tensor = kept, lambda *_, **__: latents
        pipe(class_labels=[3] * len(latents), num_inference_steps=STEPS, guidance_scale=4.0)
    finally:
        pipe.vae, file.randn_tensor = vae, draw
    return kept.z * vae.config.scaling_factor


def consistency(pipe: Any, latents: Tensor) -> Tensor:
    """ConsistencyModelPipeline before its pictures are clipped."""
    pixels = pipe(
        batch_size=len(latents),
        class_labels=[3] * len(latents),
        num_inference_steps=STEPS,
        latents=latents,
        output_type="pt",
    ).images
    return 2 * pixels - 1


def modular(pipe: Any, latents: Tensor) -> Tensor:
    """The modular pipeline with its own guider, which the adapter switches off."""
    own = pipe.guider
    pipe.update_components(guider=diffusers.ClassifierFreeGuidance(guidance_scale=5.0))
    state = pipe(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        latents=latents,
        num_images_per_prompt=len(latents),
        num_inference_steps=STEPS,
        height=32,
        width=32,
        output_type="latent",
    )
    pipe.update_components(guider=own)
    return state.get("images")


TEXT = {"prompt": PROMPT, "guidance_scale": 5.0}
NEGATED = {"condition": {"prompt": PROMPT, "negative_prompt": NEGATIVE}, "guidance": 5.0}
VIDEO = {"num_images_per_prompt": None, "height": 16, "width": 16, "num_frames": 9, **TEXT}

CALLS: dict[str, Call] = {
    "stable-diffusion": Call({**TEXT, "negative_prompt": NEGATIVE}, NEGATED),
    "stable-diffusion-xl": Call(TEXT, {"guidance": 5.0}),
    "stable-diffusion-3": Call({**TEXT, "negative_prompt": NEGATIVE}, NEGATED),
    "flux": Call(TEXT, {"guidance": 5.0}),
    "pixart": Call(
        {**TEXT, "clean_caption": False, "use_resolution_binning": False, "negative_prompt": NEGATIVE},
        NEGATED,
    ),
    "dit": Call(settings={"condition": 3, "guidance": 4.0}, run=dit),
    "unconditional": Call(settings={"condition": None}, run=unconditional, noisy="scheduling_ddpm"),
    "latent-consistency": Call(TEXT, {"guidance": 5.0}, noisy="scheduling_lcm"),
    "latent-consistency-xl": Call(TEXT, {"guidance": 5.0}, noisy="scheduling_lcm"),
    "consistency": Call(settings={"condition": 3}, run=consistency, noisy="scheduling_consistency_models"),
    "wan": Call(
        {**VIDEO, "negative_prompt": NEGATIVE, "num_videos_per_prompt": 3},
        NEGATED,
        {"height": 16, "width": 16, "frames": 9},
    ),
    "ltx": Call(
        {**VIDEO, "num_videos_per_prompt": 3, "height": 32, "width": 32, "frame_rate": 25},
        {"guidance": 5.0},
        {"height": 32, "width": 32, "frames": 9},
    ),
    "modular": Call(settings=NEGATED, options={"height": 32, "width": 32}, run=modular),
}
