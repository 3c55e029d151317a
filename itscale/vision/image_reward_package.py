"""The network of ImageReward as its own package builds it, under libraries newer than the package."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from itscale.errors import MissingExtra
from itscale.vision.image_reward_native import HEAD_WIDTH, Sizes
from itscale.vision.states import fill

PACKAGE = "ImageReward"
ALIAS = "_itscale_image_reward"
"""Name under which the package's files are imported, so that its own name and ``clip`` stay untouched."""


class PackageNetwork(nn.Module):
    """The published module, called in batches.

    Its ``__init__`` files are never run, since they import training code with dependencies of its own.

    Args:
        state: of the published module.
        device: where it will compute.

    Raises:
        MissingExtra: if the package, or one that it imports, is absent.
    """

    def __init__(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        super().__init__()
        self.sizes = Sizes.of(state)
        module = package_module()
        with tempfile.TemporaryDirectory() as folder, _own_encoders(module, self.sizes):
            config = Path(folder) / "med_config.json"
            config.write_text(json.dumps(text_config(self.sizes)))
            self.published: Any = module.ImageReward(med_config=str(config), device=device)
        fill(self.published, state, "this file")

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Standardised scores ``[m]`` of preprocessed images with their tokens."""
        return self.published.score_gard(ids, mask, pixels)[:, 0].float()


def text_config(sizes: Sizes) -> dict[str, Any]:
    """The configuration of the text encoder, which the package reads from a file of its own."""
    return {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": sizes.text_width,
        "intermediate_size": sizes.text_hidden,
        "num_hidden_layers": sizes.text_depth,
        "num_attention_heads": max(1, sizes.text_width // HEAD_WIDTH),
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "add_cross_attention": True,
    }


def package_module() -> ModuleType:
    """The package's module of the model, imported once under ``ALIAS``."""
    name = f"{ALIAS}.{PACKAGE}"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            "backend='package' of reward 'image-reward' needs 'image-reward', which is not installed: "
            "pip install --no-deps image-reward fairscale timm (its own pins replace newer libraries)"
        )
    folder = Path(next(iter(found.submodule_search_locations)))
    for alias, path in ((ALIAS, folder), (f"{ALIAS}.models", folder / "models")):
        empty = ModuleType(alias)
        empty.__path__ = [str(path)]
        sys.modules[alias] = empty
    try:
        with _names_of_old_transformers():
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"backend='package' of reward 'image-reward' needs {error.name!r}, which is not installed: "
            f"pip install {error.name}"
        ) from error
    _complete_text_encoder(sys.modules[f"{ALIAS}.models.BLIP.med"])
    return module


@contextlib.contextmanager
def _names_of_old_transformers() -> Iterator[None]:
    """Put three functions back where the package imports them from, for as long as it does so."""
    from transformers import modeling_utils, pytorch_utils

    def find_pruneable_heads_and_indices(*args: Any) -> Any:
        raise NotImplementedError("heads are not pruned here")

    names = {
        "apply_chunking_to_forward": pytorch_utils.apply_chunking_to_forward,
        "prune_linear_layer": pytorch_utils.prune_linear_layer,
        "find_pruneable_heads_and_indices": find_pruneable_heads_and_indices,
    }
    added = [n for n in names if not hasattr(modeling_utils, n)]
    for n in added:
        setattr(modeling_utils, n, names[n])
    try:
        yield
    finally:
        for n in added:
            delattr(modeling_utils, n)


def _complete_text_encoder(med: Any) -> None:
    """Give the package's text encoder the methods that its base class no longer has."""
    base = med.BertPreTrainedModel

    def get_head_mask(self: Any, head_mask: Any, layers: int, *args: Any) -> Any:
        return [None] * layers if head_mask is None else head_mask

    def invert_attention_mask(self: Any, mask: Tensor) -> Tensor:
        return (1.0 - mask[:, None, None, :].to(self.dtype)) * torch.finfo(self.dtype).min

    def init_weights(self: Any) -> None:
        self.apply(self._init_weights)

    base.get_head_mask = get_head_mask
    base.invert_attention_mask = invert_attention_mask
    base.init_weights = init_weights


@contextlib.contextmanager
def _own_encoders(module: Any, sizes: Sizes) -> Iterator[None]:
    """Let the package build its image encoder in the sizes of the file, and no tokenizer."""
    pretrain = sys.modules[f"{ALIAS}.models.BLIP.blip_pretrain"]
    vit = sys.modules[f"{ALIAS}.models.BLIP.vit"]

    def create_vit(*args: Any, **options: Any) -> tuple[Any, int]:
        encoder = vit.VisionTransformer(
            img_size=sizes.image, patch_size=sizes.patch, embed_dim=sizes.width, depth=sizes.depth,
            num_heads=max(1, sizes.width // HEAD_WIDTH), mlp_ratio=sizes.hidden / sizes.width,
        )  # fmt: skip
        return encoder, sizes.width

    class Head(module.MLP):  # its first layer is as wide as the text encoder
        def __init__(self, inputs: int) -> None:
            super().__init__(sizes.text_width)

    changes = {(pretrain, "create_vit"): create_vit, (pretrain, "init_tokenizer"): lambda: None}
    changes[(module, "MLP")] = Head
    before = {place: getattr(*place) for place in changes}
    for (place, name), value in changes.items():
        setattr(place, name, value)
    try:
        yield
    finally:
        for (place, name), value in before.items():
            setattr(place, name, value)
