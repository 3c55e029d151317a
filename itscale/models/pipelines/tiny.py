"""Tiny pipelines with random weights, made on the spot: for tests of adapters, without any download.

They are real diffusers pipelines of a few ten thousand parameters; their pictures are noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from itscale.models.pipelines.tiny_parts import (
    SCALED_LINEAR,
    clip_text,
    clip_tokenizer,
    flow_vae,
    image_vae,
    library,
    quiet,
    seeded,
    t5_text,
    t5_tokenizer,
)


def stable_diffusion(**unet: Any) -> Any:
    """Stable Diffusion 1.5 in small: 16 x 16 latents of 4 channels; ``unet`` changes the network."""
    d = library("diffusers")
    network = seeded(
        lambda: d.UNet2DConditionModel(
            **{
                "block_out_channels": (4, 8),
                "layers_per_block": 1,
                "sample_size": 16,
                "in_channels": 4,
                "out_channels": 4,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "cross_attention_dim": 8,
                "norm_num_groups": 2,
                **unet,
            }
        )
    )
    scheduler = d.DDIMScheduler(**SCALED_LINEAR, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return quiet(
        d.StableDiffusionPipeline(
            unet=network,
            scheduler=scheduler,
            vae=image_vae(),
            text_encoder=clip_text(8),
            tokenizer=clip_tokenizer(),
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
    )


def stable_diffusion_xl() -> Any:
    """SDXL in small: two text encoders and the sizes of the image."""
    d = library("diffusers")
    network = seeded(
        lambda: d.UNet2DConditionModel(
            block_out_channels=(2, 4),
            layers_per_block=2,
            sample_size=16,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 2),
            projection_class_embeddings_input_dim=80,
            cross_attention_dim=64,
            norm_num_groups=1,
        )
    )
    return quiet(
        d.StableDiffusionXLPipeline(
            unet=network,
            scheduler=d.EulerDiscreteScheduler(**SCALED_LINEAR, steps_offset=1, timestep_spacing="leading"),
            vae=image_vae(scaling_factor=0.13025),
            text_encoder=clip_text(32),
            text_encoder_2=clip_text(32, projected=True),
            tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer(),
            add_watermarker=False,
        )
    )


def stable_diffusion_3(layers: int = 1) -> Any:
    """SD3 in small, with its static shift."""
    d = library("diffusers")
    network = seeded(
        lambda: d.SD3Transformer2DModel(
            sample_size=16,
            patch_size=1,
            in_channels=4,
            num_layers=layers,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=64,
            out_channels=4,
        )
    )
    return quiet(
        d.StableDiffusion3Pipeline(
            scheduler=d.FlowMatchEulerDiscreteScheduler(shift=3.0),
            text_encoder=clip_text(32, projected=True),
            text_encoder_2=clip_text(32, projected=True),
            text_encoder_3=t5_text(),
            tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer(),
            tokenizer_3=t5_tokenizer(),
            transformer=network,
            vae=flow_vae(4),
        )
    )


def flux(guided: bool = True) -> Any:
    """FLUX.1 dev in small, or schnell if it is not ``guided``."""
    d = library("diffusers")
    network = seeded(
        lambda: d.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guided,
        )
    )
    pipe = d.FluxPipeline(
        scheduler=d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guided),
        text_encoder=clip_text(32),
        text_encoder_2=t5_text(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        transformer=network,
        vae=flow_vae(4),
    )
    pipe.default_sample_size = 16
    return quiet(pipe)


def pixart() -> Any:
    """PixArt-Sigma in small."""
    d = library("diffusers")
    network = seeded(
        lambda: d.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
        )
    )
    return quiet(
        d.PixArtSigmaPipeline(
            tokenizer=t5_tokenizer(),
            text_encoder=t5_text(),
            vae=image_vae(scaling_factor=0.13025),
            transformer=network,
            scheduler=d.DPMSolverMultistepScheduler(),
        )
    )


def dit() -> Any:
    """DiT in small, of ten classes."""
    d = library("diffusers")
    network = seeded(
        lambda: d.DiTTransformer2DModel(
            sample_size=16,
            num_layers=2,
            patch_size=4,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_zero",
            norm_elementwise_affine=False,
        )
    )
    return quiet(
        d.DiTPipeline(
            transformer=network,
            vae=image_vae(),
            scheduler=d.DDIMScheduler(clip_sample=False),
            id2label={i: f"class {i}" for i in range(10)},
        )
    )


def unconditional() -> Any:
    """A DDPM on 8 x 8 pixels."""
    d = library("diffusers")
    network = seeded(
        lambda: d.UNet2DModel(
            block_out_channels=(4, 8),
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=8,
            in_channels=3,
            out_channels=3,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
    )
    return quiet(d.DDPMPipeline(unet=network, scheduler=d.DDPMScheduler()))


def latent_consistency() -> Any:
    """A latent consistency model in small."""
    d = library("diffusers")
    pipe = stable_diffusion(time_cond_proj_dim=32)
    scheduler = d.LCMScheduler(**SCALED_LINEAR, clip_sample=False, set_alpha_to_one=True)
    parts = {name: part for name, part in pipe.components.items() if name != "scheduler"}
    return quiet(
        d.LatentConsistencyModelPipeline(scheduler=scheduler, **parts, requires_safety_checker=False)
    )


def latent_consistency_xl() -> Any:
    """SDXL in small with the scheduler of a latent consistency model."""
    d = library("diffusers")
    pipe = stable_diffusion_xl()
    pipe.scheduler = d.LCMScheduler(**SCALED_LINEAR, clip_sample=False, set_alpha_to_one=True)
    return pipe


def consistency() -> Any:
    """A consistency model on 8 x 8 pixels, of ten classes."""
    d = library("diffusers")
    network = seeded(
        lambda: d.UNet2DModel(
            block_out_channels=(4, 8),
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=8,
            in_channels=3,
            out_channels=3,
            num_class_embeds=10,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
    )
    return quiet(d.ConsistencyModelPipeline(unet=network, scheduler=d.CMStochasticIterativeScheduler()))


def wan(second: bool = False) -> Any:
    """Wan 2.1 in small, or with a ``second`` network for the later part as Wan 2.2."""
    d = library("diffusers")

    def network(layers: int) -> Any:
        return seeded(
            lambda: d.WanTransformer3DModel(
                patch_size=(1, 2, 2),
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=16,
                out_channels=16,
                text_dim=32,
                freq_dim=256,
                ffn_dim=32,
                num_layers=layers,
                cross_attn_norm=True,
                qk_norm="rms_norm_across_heads",
                rope_max_seq_len=32,
            )
        )

    vae = seeded(
        lambda: d.AutoencoderKLWan(
            base_dim=3,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        )
    )
    return quiet(
        d.WanPipeline(
            tokenizer=t5_tokenizer(),
            text_encoder=t5_text(),
            vae=vae,
            scheduler=d.FlowMatchEulerDiscreteScheduler(shift=7.0),
            transformer=network(2),
            transformer_2=network(1) if second else None,
            boundary_ratio=0.9 if second else None,
        )
    )


def ltx() -> Any:
    """LTX-Video in small."""
    d = library("diffusers")
    network = seeded(
        lambda: d.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            patch_size=1,
            patch_size_t=1,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=1,
            caption_channels=32,
        )
    )
    vae = seeded(
        lambda: d.AutoencoderKLLTXVideo(
            in_channels=3,
            out_channels=3,
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(False,) * 5,
            upsample_residual=(False,) * 4,
            upsample_factor=(1,) * 4,
            timestep_conditioning=False,
            patch_size=1,
            patch_size_t=1,
            encoder_causal=True,
            decoder_causal=False,
        )
    )
    return quiet(
        d.LTXPipeline(
            scheduler=d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1),
            vae=vae,
            text_encoder=t5_text(),
            tokenizer=t5_tokenizer(),
            transformer=network,
        )
    )


def modular() -> Any:
    """The modular pipeline of SD3 in small, for the path of families without an adapter."""
    pipe = library("diffusers").modular_pipelines.StableDiffusion3AutoBlocks().init_pipeline()
    parts = stable_diffusion_3().components
    pipe.update_components(**{name: part for name, part in parts.items() if name in pipe.components})
    pipe.set_progress_bar_config(disable=True)
    return pipe


TINY: dict[str, Callable[[], Any]] = {
    "stable-diffusion": stable_diffusion,
    "stable-diffusion-xl": stable_diffusion_xl,
    "stable-diffusion-3": stable_diffusion_3,
    "flux": flux,
    "pixart": pixart,
    "dit": dit,
    "unconditional": unconditional,
    "latent-consistency": latent_consistency,
    "latent-consistency-xl": latent_consistency_xl,
    "consistency": consistency,
    "wan": wan,
    "ltx": ltx,
    "modular": modular,
}
"""Family -> what builds a tiny pipeline of it."""
