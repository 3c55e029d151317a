"""Tiny pipelines with random weights, made on the spot: for tests of adapters, without any download.

They are real diffusers pipelines of a few ten thousand parameters; their pictures are noise.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

SEED = 0


def stable_diffusion(**unet: Any) -> Any:
    """Stable Diffusion 1.5 in small: 16 x 16 latents of 4 channels; ``unet`` changes the network."""
    d = _library("diffusers")
    network = _seeded(
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
    return _quiet(
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
    d = _library("diffusers")
    network = _seeded(
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
    return _quiet(
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


def stable_diffusion_3() -> Any:
    """SD3 in small, with its static shift."""
    d = _library("diffusers")
    network = _seeded(
        lambda: d.SD3Transformer2DModel(
            sample_size=16,
            patch_size=1,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=64,
            out_channels=4,
        )
    )
    return _quiet(
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
    d = _library("diffusers")
    network = _seeded(
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
    return _quiet(pipe)


def pixart() -> Any:
    """PixArt-Sigma in small."""
    d = _library("diffusers")
    network = _seeded(
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
    return _quiet(
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
    d = _library("diffusers")
    network = _seeded(
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
    return _quiet(
        d.DiTPipeline(
            transformer=network,
            vae=image_vae(),
            scheduler=d.DDIMScheduler(clip_sample=False),
            id2label={i: f"class {i}" for i in range(10)},
        )
    )


def unconditional() -> Any:
    """A DDPM on 8 x 8 pixels."""
    d = _library("diffusers")
    network = _seeded(
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
    return _quiet(d.DDPMPipeline(unet=network, scheduler=d.DDPMScheduler()))


def latent_consistency() -> Any:
    """A latent consistency model in small."""
    d = _library("diffusers")
    pipe = stable_diffusion(time_cond_proj_dim=32)
    scheduler = d.LCMScheduler(**SCALED_LINEAR, clip_sample=False, set_alpha_to_one=True)
    parts = {name: part for name, part in pipe.components.items() if name != "scheduler"}
    return _quiet(
        d.LatentConsistencyModelPipeline(scheduler=scheduler, **parts, requires_safety_checker=False)
    )


def latent_consistency_xl() -> Any:
    """SDXL in small with the scheduler of a latent consistency model."""
    d = _library("diffusers")
    pipe = stable_diffusion_xl()
    pipe.scheduler = d.LCMScheduler(**SCALED_LINEAR, clip_sample=False, set_alpha_to_one=True)
    return pipe


def consistency() -> Any:
    """A consistency model on 8 x 8 pixels, of ten classes."""
    d = _library("diffusers")
    network = _seeded(
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
    return _quiet(d.ConsistencyModelPipeline(unet=network, scheduler=d.CMStochasticIterativeScheduler()))


def wan(second: bool = False) -> Any:
    """Wan 2.1 in small, or with a ``second`` network for the later part as Wan 2.2."""
    d = _library("diffusers")

    def network(layers: int) -> Any:
        return _seeded(
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

    vae = _seeded(
        lambda: d.AutoencoderKLWan(
            base_dim=3,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        )
    )
    return _quiet(
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
    d = _library("diffusers")
    network = _seeded(
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
    vae = _seeded(
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
    return _quiet(
        d.LTXPipeline(
            scheduler=d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1),
            vae=vae,
            text_encoder=t5_text(),
            tokenizer=t5_tokenizer(),
            transformer=network,
        )
    )


SCALED_LINEAR = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def clip_tokenizer() -> Any:
    """A CLIP tokenizer of single characters; the end of a text has the largest id, as pooling expects."""
    letters = [chr(c) for c in range(33, 127)]
    pieces = ["<|startoftext|>", "<pad>", *letters, *(f"{c}</w>" for c in letters), "<|endoftext|>"]
    return _library("transformers").CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[],
        model_max_length=77,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        pad_token="<pad>",
    )


def t5_tokenizer() -> Any:
    """A tokenizer of single characters with the interface of T5's."""
    k = _library("tokenizers")
    pieces = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_letters, *string.digits, *",.!?'-"]
    inner = k.Tokenizer(k.models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    inner.pre_tokenizer = k.pre_tokenizers.Metaspace()
    inner.decoder = k.decoders.Metaspace()
    inner.post_processor = k.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return _library("transformers").PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )


def clip_text(width: int, projected: bool = False) -> Any:
    """A CLIP text encoder of two layers."""
    t = _library("transformers")
    end = len(clip_tokenizer()) - 1
    config = t.CLIPTextConfig(
        hidden_size=width,
        intermediate_size=width + 5,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=end + 1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=end,
        projection_dim=32,
        max_position_embeddings=77,
    )
    kind = t.CLIPTextModelWithProjection if projected else t.CLIPTextModel
    return _seeded(lambda: kind(config).eval())


def t5_text() -> Any:
    """A T5 encoder of two layers, 32 channels wide."""
    t = _library("transformers")
    config = t.T5Config(
        vocab_size=128,
        d_model=32,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    return _seeded(lambda: t.T5EncoderModel(config).eval())


def image_vae(channels: int = 4, **options: Any) -> Any:
    """An autoencoder of images that halves their sides."""
    d = _library("diffusers")
    return _seeded(
        lambda: d.AutoencoderKL(
            **{
                "block_out_channels": (4, 8),
                "in_channels": 3,
                "out_channels": 3,
                "down_block_types": ("DownEncoderBlock2D",) * 2,
                "up_block_types": ("UpDecoderBlock2D",) * 2,
                "latent_channels": channels,
                "norm_num_groups": 2,
                "sample_size": 32,
                **options,
            }
        )
    )


def flow_vae(channels: int) -> Any:
    """An autoencoder as flow models have it: a shift, and no convolutions around the latents."""
    return image_vae(
        channels,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    )


def _library(name: str) -> Any:
    return import_module(name)


def _seeded(build: Callable[[], Any]) -> Any:
    """Build with weights that are always the same; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return build()


def _quiet(pipe: Any) -> Any:
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
}
"""Family -> what builds a tiny pipeline of it."""
