"""Parts of tiny pipelines: tokenizers, encoders of texts, autoencoders, all with random weights."""

from __future__ import annotations

import string
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

SEED = 0
SCALED_LINEAR = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def clip_tokenizer() -> Any:
    """A CLIP tokenizer of single characters; the end of a text has the largest id, as pooling expects."""
    letters = [chr(c) for c in range(33, 127)]
    pieces = ["<|startoftext|>", "<pad>", *letters, *(f"{c}</w>" for c in letters), "<|endoftext|>"]
    return library("transformers").CLIPTokenizer(
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
    k = library("tokenizers")
    pieces = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_letters, *string.digits, *",.!?'-"]
    inner = k.Tokenizer(k.models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    inner.pre_tokenizer = k.pre_tokenizers.Metaspace()
    inner.decoder = k.decoders.Metaspace()
    inner.post_processor = k.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return library("transformers").PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )


def clip_text(width: int, projected: bool = False) -> Any:
    """A CLIP text encoder of two layers."""
    t = library("transformers")
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
    return seeded(lambda: kind(config).eval())


def t5_text(width: int = 32) -> Any:
    """A T5 encoder of two layers."""
    t = library("transformers")
    config = t.T5Config(
        vocab_size=128,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    return seeded(lambda: t.T5EncoderModel(config).eval())


def image_vae(channels: int = 4, **options: Any) -> Any:
    """An autoencoder of images that halves their sides."""
    d = library("diffusers")
    return seeded(
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


def library(name: str) -> Any:
    return import_module(name)


def seeded(build: Callable[[], Any]) -> Any:
    """Build with weights that are always the same; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return build()


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe
