"""Pipelines of the released sizes with random weights, built where they run.

Networks and autoencoders have the shapes of the releases; text encoders have two layers of the right width,
since prompts are encoded once. FLUX has fewer blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch

from itscale.models.pipelines import tiny_parts as parts
from itscale.models.pipelines.tiny import TINY

FLUX_BLOCKS = (5, 10)
"""Double and single blocks; the release has 19 and 38."""

VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


def stable_diffusion() -> Any:
    """Stable Diffusion 1.5: a U-Net of 860 million parameters, 512 x 512 pixels."""
    network = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    return diffusers.StableDiffusionPipeline(
        unet=network,
        vae=parts.image_vae(scaling_factor=0.18215, **VAE),
        text_encoder=parts.clip_text(768),
        tokenizer=parts.clip_tokenizer(),
        scheduler=on_host(diffusers.EulerDiscreteScheduler, **parts.SCALED_LINEAR, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    """SDXL: a U-Net of 2.6 billion parameters, 1024 x 1024 pixels."""
    network = diffusers.UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + 32,  # 32 is what the small encoder pools to
    )
    return diffusers.StableDiffusionXLPipeline(
        unet=network,
        vae=parts.image_vae(scaling_factor=0.13025, **VAE),
        text_encoder=parts.clip_text(768),
        text_encoder_2=parts.clip_text(1280, projected=True),
        tokenizer=parts.clip_tokenizer(),
        tokenizer_2=parts.clip_tokenizer(),
        scheduler=on_host(diffusers.EulerDiscreteScheduler, **parts.SCALED_LINEAR, steps_offset=1),
        add_watermarker=False,
    )


def flux() -> Any:
    """FLUX.1 dev with fewer blocks, 1024 x 1024 pixels."""
    double, single = FLUX_BLOCKS
    network = diffusers.FluxTransformer2DModel(
        num_layers=double, num_single_layers=single, guidance_embeds=True
    )
    vae = parts.image_vae(
        16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        **VAE,
    )
    return diffusers.FluxPipeline(
        transformer=network,
        vae=vae,
        text_encoder=parts.clip_text(768),
        text_encoder_2=parts.t5_text(4096),
        tokenizer=parts.clip_tokenizer(),
        tokenizer_2=parts.t5_tokenizer(),
        scheduler=on_host(diffusers.FlowMatchEulerDiscreteScheduler, use_dynamic_shifting=True),
    )


def on_host(kind: Any, **settings: Any) -> Any:
    """A scheduler, whose tables belong to the host."""
    with torch.device("cpu"):
        return kind(**settings)


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd15": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "flux": flux,
}
SMALL = {"sd15": "stable-diffusion", "sdxl": "stable-diffusion-xl", "flux": "flux"}


def build(name: str, device: str, is_small: bool = False) -> Any:
    """Build a pipeline on a device, in bfloat16 on an accelerator; or the tiny one of its family."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    if is_small:
        return TINY[SMALL[name]]().to(device, dtype)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.device(device):
            pipe = BUILDERS[name]()
    finally:
        torch.set_default_dtype(before)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device, dtype)
