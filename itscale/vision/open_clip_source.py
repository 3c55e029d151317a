"""CLIP models of the open_clip library: by folder, by name and file, by name and tag."""

from __future__ import annotations

import importlib.metadata
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from itscale.errors import ConfigError, did_you_mean, missing_extra
from itscale.vision.image_text import ImageText
from itscale.vision.places import MissingWeights, hub_folder
from itscale.vision.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from itscale.vision.states import DTYPES, frozen

LOCAL = "local-dir:"
QUICK = "-quickgelu"
CONFIG = "open_clip_config.json"
CHECKPOINTS = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "model.safetensors", "pytorch_model.bin",
)  # fmt: skip
FITS = {"shortest": "crop", "longest": "pad", "squash": "stretch"}


@dataclass(frozen=True)
class OpenClip:
    """One open_clip model and its weights.

    Args:
        model: ``"local-dir:FOLDER"``, whose files state architecture, preprocessing and tokenizer, or the
            name of an architecture.
        weights: for a name: a file, or a tag of open_clip's table of published weights.
        quick_gelu: the activation that the weights were trained with, to be stated with a file where
            the architecture exists with both.
        dtype: in which it computes.
        allow_download: fetch the weights of a tag; else they must be in the hub's cache.
    """

    model: str
    weights: str | None = None
    quick_gelu: bool | None = None
    dtype: str = "float32"
    allow_download: bool = False

    def check(self) -> OpenClip:
        """Look for the files and settle the activation, without loading weights.

        Raises:
            MissingWeights: for files that are not there.
            ConfigError: for an unknown name or tag, and for an activation that is unsaid or contradicts
                the weights.
        """
        if self.model.startswith(LOCAL):
            self._check_folder()
        else:
            self._check_name()
        return self

    def load(self, device: torch.device) -> ImageText:
        """Read the weights."""
        open_clip = library()
        if self.model.startswith(LOCAL):
            model = open_clip.create_model(self.model)
        else:
            options = self._tag()
            model = open_clip.create_model(
                self.model,
                pretrained=str(self._file(options)),
                force_quick_gelu=bool(self.quick_gelu),
                force_preprocess_cfg=preprocessing_facts(options),
            )
        preprocessing = preprocessing_of(model.visual.preprocess_cfg)
        return joint(model, open_clip.get_tokenizer(self.model), preprocessing, device, self.dtype)

    def _check_folder(self) -> None:
        folder = Path(self.model.removeprefix(LOCAL)).expanduser()
        if self.weights is not None:
            raise ConfigError(f"model={self.model!r} brings its weights; leave weights={self.weights!r} out")
        found = importlib.metadata.version("open-clip-torch")
        if int(found.split(".")[0]) < 3:
            raise ConfigError(
                f"model={self.model!r} needs open-clip-torch 3, and {found} is installed; upgrade it, or "
                "give the name of an architecture with weights=FILE"
            )
        lacking = [] if (folder / CONFIG).is_file() else [CONFIG]
        if not any((folder / name).is_file() for name in CHECKPOINTS):
            lacking.append("weights such as " + CHECKPOINTS[0])
        if lacking:
            there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else "no such folder"
            raise MissingWeights(
                f"model={self.model!r} lacks {' and '.join(lacking)} (there: {there}); give a folder as "
                "open_clip saves it"
            )

    def _check_name(self) -> None:
        open_clip = library()
        names = open_clip.list_models()
        if self.model not in names:
            raise ConfigError(
                f"open_clip has no model {self.model!r}.{did_you_mean(self.model, names)} Give one of "
                f"open_clip.list_models(), or {LOCAL}FOLDER"
            )
        if self.weights is None:
            raise ConfigError(
                f"model={self.model!r} is an architecture without weights; add weights=FILE or a tag such as "
                f"{', '.join(open_clip.list_pretrained_tags_by_model(self.model)[:3])}, or use {LOCAL}FOLDER"
            )
        options = self._tag()
        if options is None:
            self._file(None)
            self._check_preprocessing()
        self._check_activation(options, names)
        if options is not None:
            self._file(options)

    def _tag(self) -> dict[str, Any] | None:
        """What open_clip knows about the weights, if they are a tag of it."""
        assert self.weights is not None
        return library().get_pretrained_cfg(self.model, self.weights) or None

    def _check_activation(self, options: dict[str, Any] | None, names: list[str]) -> None:
        """Weights trained with one GELU load into a model with another, and score wrongly."""
        stem = self.model.removesuffix(QUICK)
        is_quick = self.model.endswith(QUICK) or bool(self.quick_gelu)
        if self.model.endswith(QUICK) and self.quick_gelu is False:
            raise ConfigError(
                f"model={self.model!r} is the one with quick GELU; use {stem!r}, or quick_gelu=True"
            )
        if options is not None:
            trained = bool(options.get("quick_gelu", False))
            if trained != is_quick:
                right = stem + QUICK if trained else stem
                was, will = ("with" if quick else "without" for quick in (trained, is_quick))
                raise ConfigError(
                    f"weights={self.weights!r} were trained {was} quick GELU, and model={self.model!r} has "
                    f"it {will}: they would load and score wrongly. Use model={right!r}"
                )
            return
        has_both = stem + QUICK in names
        if has_both and self.quick_gelu is None and not self.model.endswith(QUICK):
            raise ConfigError(
                f"{self.weights!r} does not say which activation it was trained with, and {stem!r} exists "
                f"with both; OpenAI's weights need model={stem + QUICK!r}. State quick_gelu=True or False"
            )

    def _check_preprocessing(self) -> None:
        """A bare file says nothing about preprocessing: refuse where no published weights use CLIP's."""
        open_clip = library()
        tags = open_clip.list_pretrained_tags_by_model(self.model)
        if tags and not any(_is_plain(open_clip.get_pretrained_cfg(self.model, tag)) for tag in tags):
            raise ConfigError(
                f"models {self.model!r} are published with another preprocessing than CLIP's, which a file "
                f"does not state; use {LOCAL}FOLDER, or the tag {tags[0]!r}"
            )

    def _file(self, options: dict[str, Any] | None) -> Path:
        """The file of the weights; a tag's is looked for in the hub's cache, or downloaded."""
        assert self.weights is not None
        if options is not None:
            found = self._published(options)
            if found is None:
                raise MissingWeights(
                    f"the weights {self.weights!r} of {self.model!r} are not in the hub's cache; set "
                    "allow_download=True to fetch them, or give a file or a folder"
                )
            return found
        path = Path(self.weights).expanduser()
        if not path.is_file():
            tags = library().list_pretrained_tags_by_model(self.model)
            raise MissingWeights(
                f"weights={self.weights!r} is neither a file nor a tag of {self.model!r}."
                f"{did_you_mean(self.weights, tags)} Tags: {', '.join(tags) or 'none'}"
            )
        if is_torchscript(path):
            raise ConfigError(
                f"{self.weights!r} is a TorchScript archive, as OpenAI publishes them; use the tag "
                "weights='openai', or save its state_dict() into a file"
            )
        return path

    def _published(self, options: dict[str, Any]) -> Path | None:
        repository, name = os.path.split(options.get("hf_hub", ""))
        if repository:
            names = [name] if name else list(CHECKPOINTS)
            folder = hub_folder(repository, names, self.allow_download)
            return next((folder / n for n in names if folder and (folder / n).is_file()), None)
        if not self.allow_download:
            return None
        from open_clip.pretrained import download_pretrained

        return Path(download_pretrained(options))


def library() -> Any:
    """The open_clip module, imported when used: it takes seconds."""
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise missing_extra("open-clip-torch", "images", "a CLIP model of open_clip") from error
    return open_clip


def joint(
    model: Any, tokenizer: Any, preprocessing: Preprocessing, device: torch.device, dtype: str = "float32"
) -> ImageText:
    """The two encoders of an open_clip model, frozen on a device."""
    model = frozen(model, device, dtype)
    return ImageText(
        model.encode_image,
        lambda texts: model.encode_text(tokenizer(texts).to(device)),
        preprocessing,
        logit_scale=float(model.logit_scale.exp()),
        dtype=DTYPES[dtype],
    )


def preprocessing_of(facts: dict[str, Any]) -> Preprocessing:
    """What open_clip states about a model's preprocessing, as ours."""
    size = facts["size"]
    fit = FITS.get(facts.get("resize_mode") or "shortest")
    interpolation = facts.get("interpolation") or "bicubic"
    if fit is None or interpolation not in ("bicubic", "bilinear"):
        raise ConfigError(
            f"preprocessing {facts} of this open_clip model is not known here; please report it"
        )
    return Preprocessing(
        size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        fit=fit,  # type: ignore[arg-type]
        interpolation=interpolation,
        fill=float(facts.get("fill_color") or 0) / 255,
    )


def preprocessing_facts(options: dict[str, Any] | None) -> dict[str, Any]:
    """The entries of a tag that concern preprocessing."""
    keys = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    return {k: v for k, v in (options or {}).items() if k in keys and v is not None}


def _is_plain(options: dict[str, Any]) -> bool:
    """Whether weights are used with the preprocessing of CLIP."""
    usual = {"mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    facts = preprocessing_facts(options)
    return all(facts.get(key, value) in (value, list(value)) for key, value in usual.items())


def is_torchscript(path: Path) -> bool:
    """Whether a file is a compiled module rather than a dictionary of tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
