"""The network of ImageReward on the BLIP classes of transformers, filled from the published file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from itscale.errors import ConfigError
from itscale.vision.clip_folder import library
from itscale.vision.linear_head import linear_head
from itscale.vision.states import fill

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the raw scores over the training set, by which published scores are standardised."""
HEAD_WIDTH = 64
"""Channels of one attention head, in the image encoder and in the text encoder."""
VISION, TEXT, HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp.layers."
UNUSED = re.compile(r"blip\.(vision_proj|text_proj)\.|\.position_ids$")
"""Parts of the file that no score depends on: the projections of pre-training, and plain counting."""
TO_VISION = (
    ("cls_token", "embeddings.class_embedding"),
    ("pos_embed", "embeddings.position_embedding"),
    ("patch_embed.proj.", "embeddings.patch_embedding."),
    ("blocks.", "encoder.layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attn.qkv.", ".self_attn.qkv."),
    (".attn.proj.", ".self_attn.projection."),
)
"""What the image encoder's names become, part by part; ``norm`` at the end is named apart."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of both encoders, as the tensors of a file tell them.

    Attributes:
        width, depth, hidden: of the image encoder; ``hidden`` inside a block.
        image, patch: pixels of a side.
        text_width, text_depth, text_hidden: of the text encoder.
        vocabulary, positions: tokens it knows, and how many it reads.
    """

    width: int
    depth: int
    hidden: int
    image: int
    patch: int
    text_width: int
    text_depth: int
    text_hidden: int
    vocabulary: int
    positions: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Sizes:
        """Read them from the state of the published module.

        Raises:
            ConfigError: if the state lacks what they are read from.
        """
        try:
            patches = state[VISION + "patch_embed.proj.weight"]
            words = state[TEXT + "embeddings.word_embeddings.weight"]
            side = math.isqrt(state[VISION + "pos_embed"].shape[1] - 1)
            return cls(
                width=patches.shape[0],
                depth=_count(state, VISION + "blocks."),
                hidden=state[VISION + "blocks.0.mlp.fc1.weight"].shape[0],
                image=side * patches.shape[-1],
                patch=patches.shape[-1],
                text_width=words.shape[1],
                text_depth=_count(state, TEXT + "encoder.layer."),
                text_hidden=state[TEXT + "encoder.layer.0.intermediate.dense.weight"].shape[0],
                vocabulary=words.shape[0],
                positions=state[TEXT + "embeddings.position_embeddings.weight"].shape[0],
            )
        except KeyError as error:
            raise ConfigError(
                f"this is no ImageReward checkpoint: it lacks {error.args[0]}; its names start with "
                f"{', '.join(list(state)[:3])}"
            ) from error


class NativeNetwork(nn.Module):
    """Image encoder, text encoder that attends to the image, and a linear head on its first token.

    Args:
        state: of the published module; everything in it must find its place.
        source: where it comes from, for messages.

    Reference:
        Xu et al. (2023), "ImageReward", arXiv:2304.05977. Li et al. (2022), "BLIP", arXiv:2201.12086.
    """

    def __init__(self, state: Mapping[str, Tensor], source: Any) -> None:
        super().__init__()
        self.sizes = s = Sizes.of(state)
        vision, text, head = split_state(state, source)
        transformers = library()
        self.vision = transformers.BlipVisionModel(
            transformers.BlipVisionConfig(
                hidden_size=s.width,
                intermediate_size=s.hidden,
                num_hidden_layers=s.depth,
                num_attention_heads=max(1, s.width // HEAD_WIDTH),
                image_size=s.image,
                patch_size=s.patch,
                layer_norm_eps=1e-6,
                attn_implementation="eager",
            )
        )
        self.text = transformers.BlipTextModel(
            transformers.BlipTextConfig(
                vocab_size=s.vocabulary,
                hidden_size=s.text_width,
                encoder_hidden_size=s.width,
                intermediate_size=s.text_hidden,
                num_hidden_layers=s.text_depth,
                num_attention_heads=max(1, s.text_width // HEAD_WIDTH),
                max_position_embeddings=s.positions,
                layer_norm_eps=1e-12,
                bos_token_id=0,  # these three are for generating text
                sep_token_id=0,
                eos_token_id=0,
                attn_implementation="eager",
            ),
            add_pooling_layer=False,
        )
        fill(self.vision, vision, source)
        fill(self.text, text, source)
        self.head = linear_head(head, source)

    def forward(
        self, pixels: Float[Tensor, "m 3 h w"], ids: Int[Tensor, "m l"], mask: Int[Tensor, "m l"]
    ) -> Float[Tensor, " m"]:
        """Standardised scores of preprocessed images with their tokens."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read = self.text(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=seen, is_decoder=False
        ).last_hidden_state
        return (self.head(read[:, 0])[:, 0].float() - MEAN) / STD


def split_state(
    state: Mapping[str, Tensor], source: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The published names sorted to image encoder, text encoder and head, under the names used here.

    Raises:
        ConfigError: for names that belong to none of them.
    """
    vision, text, head, odd = {}, {}, {}, []
    for name, tensor in state.items():
        if UNUSED.search(name):
            continue
        if name.startswith(VISION):
            vision[_vision_name(name.removeprefix(VISION))] = tensor
        elif name.startswith(TEXT):
            text[name.removeprefix(TEXT)] = tensor
        elif name.startswith(HEAD):
            head[name.removeprefix(HEAD)] = tensor
        else:
            odd.append(name)
    if odd:
        raise ConfigError(f"{source} holds {len(odd)} names that ImageReward has not: {', '.join(odd[:5])}")
    return vision, text, head


def _vision_name(name: str) -> str:
    for old, new in TO_VISION:
        name = name.replace(old, new)
    return re.sub(r"^norm\.", "post_layernorm.", name)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers follow a prefix."""
    return len({n.removeprefix(prefix).split(".")[0] for n in state if n.startswith(prefix)})


def bert_tokens(vocabulary: str, length: int) -> Any:
    """A function from texts to ids and mask ``[m, length]``, as BERT-base-uncased reads texts.

    Args:
        vocabulary: the file ``vocab.txt``.
        length: texts are padded and cut to it.
    """
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(vocabulary, lowercase=True)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)

    def tokens(texts: list[str]) -> tuple[Tensor, Tensor]:
        encoded = tokenizer.encode_batch(texts)
        return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])

    return tokens
