"""Learned rewards in miniature: the published layouts of files, with random weights, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

OPEN_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
"""A pair of two-layer towers in the terms of open_clip; the vocabulary is that of its own tokenizer."""
PROMPTS = ["a red apple", "a blue car in the rain", "two cats", "the letter A"]


def images(m: int = 4, height: int = 48, width: int = 48, seed: int = 0) -> Tensor:
    """Smooth random images in [0.1, 0.9], unlike enough to be told apart."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(m, 3, 6, 6, generator=draws)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return 0.1 + 0.8 * smooth


@torch.no_grad()
def shake(module: nn.Module, scale: float = 3.0, seed: int = 0) -> nn.Module:
    """Give a fresh network weights that make its outputs differ: larger matrices, biases off zero."""
    draws = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1 and "embed" not in name:
            fan_in = parameter[0].numel()
            parameter.normal_(0, scale / fan_in**0.5, generator=draws)
        elif parameter.ndim > 1:
            parameter.normal_(0, 1, generator=draws)
        elif name.endswith("bias"):
            parameter.normal_(0, 0.2, generator=draws)
    return module.eval()


def open_clip_folder(folder: Path, **preprocessing: object) -> Path:
    """A folder as open_clip's ``local-dir:`` reads it."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model = shake(open_clip.CLIP(**OPEN_CLIP), 1.5)
    facts = {"model_cfg": OPEN_CLIP, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(facts))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def hps_file(folder: Path, monkeypatch) -> Path:
    """A checkpoint of HPSv2; the architecture that it names is made small for the test."""
    import open_clip

    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-H-14", OPEN_CLIP)
    folder.mkdir(parents=True, exist_ok=True)
    model = shake(open_clip.CLIP(**OPEN_CLIP), 1.5, seed=1)
    path = folder / "HPS_v2.1_compressed.pt"
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, path)
    return path


def word_tokenizer(folder: Path, words: list[str], tokens: int = 16) -> None:
    """A tokenizer of whole words with the special tokens of CLIP, as ``tokenizer.json``."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "!", "<|startoftext|>", "<|endoftext|>"]  # 0 and 2 as ends have meanings of their own
    vocabulary = {word: i for i, word in enumerate([*special, *dict.fromkeys(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[(token, vocabulary[token]) for token in special[2:]],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<|endoftext|>", eos_token="<|endoftext|>",
        bos_token="<|startoftext|>", model_max_length=tokens,
    ).save_pretrained(folder)  # fmt: skip


def clip_folder(folder: Path, crop: int = 32) -> Path:
    """A CLIP model of transformers with processor and tokenizer."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    words = " ".join(PROMPTS).split()
    word_tokenizer(folder, words, 77)
    layers = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**layers, "vocab_size": len(set(words)) + 4, "eos_token_id": 3, "bos_token_id": 2},
        vision_config={**layers, "image_size": crop, "patch_size": 8},
        projection_dim=32,
    )
    shake(CLIPModel(config), 1.5, seed=2).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": crop}, crop_size={"height": crop, "width": crop}
    ).save_pretrained(folder)
    return folder


def aesthetic_file(folder: Path, inputs: int = 32) -> Path:
    """The linear head of the aesthetic predictor, names as published."""
    widths, names = (inputs, 1024, 128, 64, 16, 1), (0, 2, 4, 6, 7)
    draws = torch.Generator().manual_seed(3)
    state = {}
    for name, a, b in zip(names, widths, widths[1:], strict=False):
        state[f"layers.{name}.weight"] = torch.randn(b, a, generator=draws) * 1.5 / a**0.5
        state[f"layers.{name}.bias"] = torch.randn(b, generator=draws) * 0.1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save(state, path)
    return path


def image_reward_folder(folder: Path) -> Path:
    """``ImageReward.pt`` in small, names as published, and a vocabulary that spells every word of ASCII."""
    width, hidden, text, depth = 128, 256, 64, 2
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *" ".join(PROMPTS).lower().split()]
    letters = [chr(c) for c in range(33, 127)]
    words = list(dict.fromkeys([*words, *letters, *(f"##{letter}" for letter in letters)]))
    draws = torch.Generator().manual_seed(4)

    def linear(outputs: int, inputs: int, name: str, scale: float = 1.5) -> dict[str, Tensor]:
        return {
            f"{name}.weight": torch.randn(outputs, inputs, generator=draws) * scale / inputs**0.5,
            f"{name}.bias": torch.randn(outputs, generator=draws) * 0.1,
        }

    def norm(size: int, name: str) -> dict[str, Tensor]:
        return {
            f"{name}.weight": 1 + 0.1 * torch.randn(size, generator=draws),
            f"{name}.bias": 0.1 * torch.randn(size, generator=draws),
        }

    see, read = "blip.visual_encoder.", "blip.text_encoder."
    state = {
        f"{see}cls_token": torch.randn(1, 1, width, generator=draws),
        f"{see}pos_embed": torch.randn(1, 5, width, generator=draws),
        f"{see}patch_embed.proj.weight": torch.randn(width, 3, 16, 16, generator=draws) / 16,
        f"{see}patch_embed.proj.bias": torch.randn(width, generator=draws) * 0.1,
        f"{read}embeddings.position_ids": torch.arange(40)[None],
        f"{read}embeddings.word_embeddings.weight": torch.randn(len(words) + 2, text, generator=draws),
        f"{read}embeddings.position_embeddings.weight": torch.randn(40, text, generator=draws),
        **norm(text, f"{read}embeddings.LayerNorm"),
        **norm(width, f"{see}norm"),
        **linear(256, width, "blip.vision_proj"),
        **linear(256, text, "blip.text_proj"),
    }
    for i in range(depth):
        block, layer = f"{see}blocks.{i}", f"{read}encoder.layer.{i}"
        state |= norm(width, f"{block}.norm1") | norm(width, f"{block}.norm2")
        state |= linear(3 * width, width, f"{block}.attn.qkv") | linear(width, width, f"{block}.attn.proj")
        state |= linear(hidden, width, f"{block}.mlp.fc1") | linear(width, hidden, f"{block}.mlp.fc2")
        for kind, inputs in (("attention", text), ("crossattention", width)):
            state |= linear(text, text, f"{layer}.{kind}.self.query")
            state |= linear(text, inputs, f"{layer}.{kind}.self.key")
            state |= linear(text, inputs, f"{layer}.{kind}.self.value")
            state |= linear(text, text, f"{layer}.{kind}.output.dense")
            state |= norm(text, f"{layer}.{kind}.output.LayerNorm")
        state |= linear(hidden, text, f"{layer}.intermediate.dense")
        state |= linear(text, hidden, f"{layer}.output.dense") | norm(text, f"{layer}.output.LayerNorm")
    widths = (text, 1024, 128, 64, 16, 1)
    for name, a, b in zip((0, 2, 4, 6, 7), widths, widths[1:], strict=False):
        state |= linear(b, a, f"mlp.layers.{name}")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "ImageReward.pt")
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder


CHAT = (
    "{% for m in messages %}USER : {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
    "{% else %} {{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT :{% endif %}"
)
QUESTION = 'Does this figure show " "? Please answer yes or no. Yes No USER ASSISTANT :'


def vlm_folder(folder: Path) -> Path:
    """A LLaVA model: a CLIP image encoder, whose patches a Llama reads among its tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    split = pre_tokenizers.Whitespace()
    words = [word for text in [QUESTION, *PROMPTS] for word, _ in split.pre_tokenize_str(text)]
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *words, '"?', "."]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    layers = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**layers, image_size=32, patch_size=8),
        text_config=LlamaConfig(**layers, num_key_value_heads=2, vocab_size=len(vocabulary), pad_token_id=3),
        image_token_index=4,
        vision_feature_layer=-1,
    )
    shake(LlavaForConditionalGeneration(config), 1.5, seed=5).save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer=fast, patch_size=8, vision_feature_select_strategy="default", chat_template=CHAT,
        image_token="<image>", num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    return folder


CLASSES = {0: "cat", 1: "dog", 2: "bird"}


def detector_folder(folder: Path) -> Path:
    """A YOLOS detector with three classes; about half of its boxes score above a third."""
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    config = YolosConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=[32, 32],
        patch_size=8, num_detection_tokens=12, id2label=CLASSES, label2id={v: k for k, v in CLASSES.items()},
    )  # fmt: skip
    shake(YolosForObjectDetection(config), 2.0, seed=6).save_pretrained(folder)
    YolosImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def qwen_folder(folder: Path) -> Path:
    """A Qwen2-VL model, whose processor cuts images of any size into patches."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    special = ["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>"]
    split = pre_tokenizers.Whitespace()
    words = [word for text in [QUESTION, *PROMPTS] for word, _ in split.pre_tokenize_str(text)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<|endoftext|>", eos_token="<|im_end|>",
        additional_special_tokens=special[2:],
    )  # fmt: skip
    layers = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2VLConfig(
        text_config={
            **layers, "num_key_value_heads": 2, "vocab_size": len(vocabulary), "bos_token_id": 1,
            "eos_token_id": 3, "pad_token_id": 1,
            "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [4, 6, 6]},
        },
        vision_config={
            "depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14,
        },
        image_token_id=6, video_token_id=7, vision_start_token_id=4, vision_end_token_id=5,
    )  # fmt: skip
    shake(Qwen2VLForConditionalGeneration(config), 1.5, seed=7).save_pretrained(folder)
    chat = CHAT.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=112 * 112), tokenizer=fast,
        video_processor=Qwen2VLVideoProcessor(), chat_template=chat,
    ).save_pretrained(folder)  # fmt: skip
    return folder
