"""What the adapters of all pipeline families have in common.

An adapter owns the loop and borrows the modules: it holds the pipeline object, encodes prompts by the
pipeline's own method, asks the pipeline's network and decodes by its autoencoder. Nothing of a pipeline is
copied, so what was loaded into it (LoRA weights, offloading, slicing, attention processors) is in force.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from itscale.errors import ConfigError, UnknownName, did_you_mean
from itscale.grids import Grid, Uniform
from itscale.interpolants import Interpolant, Linear, Table
from itscale.models.algebra import Composable
from itscale.models.base import Given
from itscale.models.conditions import Conditions, Encoding, repeated
from itscale.models.guidance import GuidanceLike
from itscale.models.pipelines.decoding import Latents, decoded
from itscale.models.pipelines.paths import path_of, prediction_of
from itscale.models.pipelines.requests import Request, read_request
from itscale.models.pipelines.shifts import flow_grid
from itscale.types import State, Time, sent

REMEMBERED = 256
"""Prompts whose embeddings an adapter keeps."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PipelineModel(Composable, ABC):
    """A diffusers pipeline as a model. A family says how to embed a prompt and how to ask the network.

    States are the pipeline's own latents in float32, whatever dtype the network has; times are passed on in
    float32. The network and the autoencoder are frozen, in place.

    Attributes:
        pipe: the pipeline object.
        height, width: of images, in pixels; None is what the network was trained for.
        negative_prompt: what guidance leads away from where a condition does not say.
        decoder: ``"full"``, ``"tiny"`` (see ``tiny``), or ``"preview"``: a linear map of latents to small
            images, which costs nothing.
        tiny: an ``AutoencoderTiny``, or its folder.
        decode_rows: samples decoded at once.
        checkpointing: whether gradients recompute activations instead of keeping them.
    """

    pipe: Any
    height: int | None = None
    width: int | None = None
    negative_prompt: str | None = None
    decoder: Literal["full", "tiny", "preview"] = "full"
    tiny: Any = None
    decode_rows: int = 4
    checkpointing: bool = True

    classes: ClassVar[tuple[str, ...]] = ()
    """Names of the pipeline classes that the family adapts."""
    family: ClassVar[str] = ""
    distilled: ClassVar[bool] = False
    """Whether the network was distilled to jump to the data: noise may be drawn anew at every step."""

    _embedded: dict[Any, tuple[Request, Mapping[str, Tensor]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if self.decoder not in ("full", "tiny", "preview"):
            raise ConfigError(f"decoder must be 'full', 'tiny' or 'preview', got {self.decoder!r}")
        if self.decoder == "tiny" and self.tiny is None:
            raise ConfigError("decoder='tiny' needs tiny=, an AutoencoderTiny or the folder of one")
        if (
            isinstance(self.decode_rows, bool)
            or not isinstance(self.decode_rows, int)
            or self.decode_rows < 1
        ):
            raise ConfigError(f"decode_rows must be a whole number >= 1, got {self.decode_rows!r}")
        assert self.latents  # read now: some statistics are buffers, and reading them waits for the device
        for module in self.modules:
            module.eval().requires_grad_(False)
            if self.checkpointing and getattr(module, "_supports_gradient_checkpointing", False):
                module.enable_gradient_checkpointing()
        for name, size in (("height", self.size[0]), ("width", self.size[1])):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % self.multiple:
                raise ConfigError(
                    f"{name} is {size!r}: this pipeline makes sizes that are multiples of {self.multiple}, "
                    f"such as {max(1, round(_number(size) / self.multiple)) * self.multiple}"
                )

    # --- what a family says -----------------------------------------------------------------------------

    @property
    @abstractmethod
    def network(self) -> Any:
        """The network that is asked at every look."""

    @abstractmethod
    def embed(self, request: Request) -> Mapping[str, Tensor]:
        """Encode one request into tensors by name, without a batch axis; ``prompt`` None is unconditional."""

    @abstractmethod
    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        """Call the network: states in its dtype, labels (rows,) in float32, conditions of the rows."""

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]: ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """What conditions may hold for the network beside a prompt."""
        return ()

    @property
    def native_size(self) -> int:
        """Pixels along a side that the network was trained for."""
        sample = self.network.config.sample_size
        return (sample if isinstance(sample, int) else sample[0]) * self.latents.factor

    @property
    def multiple(self) -> int:
        """Sizes are multiples of it."""
        return self.latents.factor

    def unpacked(self, x: Tensor) -> Tensor:
        """States as the autoencoder takes them, (rows, channels, ..., height, width)."""
        return x

    def packed(self, z: Tensor) -> Tensor:
        """The inverse of ``unpacked``."""
        return z

    def set_timesteps(self, scheduler: Any, steps: int) -> None:
        """Set a scheduler's times as the pipeline's own call does."""
        scheduler.set_timesteps(steps)

    @property
    def modality(self) -> str:
        return "image"

    @property
    def rows_per_look(self) -> int:
        return 1

    def noise_levels(self, scheduler: Any) -> Any:
        """Noise levels of a scheduler, that of what it hands over last; None if it has labels alone."""
        return getattr(scheduler, "sigmas", None)

    # --- what the engine asks ---------------------------------------------------------------------------

    @cached_property
    def latents(self) -> Latents:
        """How latents become pixels."""
        return Latents.of(self.pipe)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        native = self.native_size if self.height is None or self.width is None else 0
        return (
            native if self.height is None else self.height,
            native if self.width is None else self.width,
        )

    @property
    def interpolant(self) -> Interpolant:
        return self._path

    @cached_property
    def _path(self) -> Interpolant:
        return path_of(self.pipe.scheduler)

    @property
    def predicts(self) -> Literal["velocity", "noise", "denoised", "v"]:
        return prediction_of(self.pipe.scheduler)

    @property
    def grid(self) -> Grid:
        """Where to look by default: a flow's times as its scheduler shifts them, otherwise even labels."""
        return (
            flow_grid(self.pipe.scheduler, self.token_count)
            if isinstance(self.interpolant, Linear)
            else Uniform()
        )

    @property
    def token_count(self) -> int:
        """The size of a state, as schedulers count that shift times by it."""
        return 4096

    @property
    def dtype(self) -> torch.dtype:
        """Of the states."""
        return torch.float32

    @property
    def modules(self) -> tuple[Any, ...]:
        """The modules that gradients may go through."""
        found = [self.network, getattr(self.pipe, "transformer_2", None), getattr(self.pipe, "vae", None)]
        found.append(getattr(self.pipe, "controlnet", None))
        return tuple(module for module in found if isinstance(module, nn.Module))

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes, offloaded or not."""
        return torch.device(self.pipe._execution_device)

    def encode(self, conditions: Sequence[Any]) -> Encoding | None:
        """Embed the prompts of the groups; equal ones are embedded once.

        Raises:
            ConfigError: for a condition that is no prompt, or has an input that the pipeline cannot take.
        """
        requests = [read_request(condition, self.inputs) for condition in conditions]
        entries = [self._entry(self._completed(r)) for r in requests]
        against = None
        if any(r.is_own for r in requests):
            against = [self._entry(self._completed(r.opposite)) for r in requests]
        return Conditions.of(entries, against)

    def check_conditions(self, conditions: Sequence[Any]) -> None:
        """Raise as ``encode`` does; nothing is embedded."""
        for condition in conditions:
            read_request(condition, self.inputs)

    def _completed(self, request: Request) -> Request:
        if request.prompt is None and self.negative_prompt is not None:
            return replace(request, prompt=self.negative_prompt)
        return request

    def _entry(self, request: Request) -> Mapping[str, Tensor]:
        known = self._embedded
        if request.key not in known:
            if len(known) >= REMEMBERED:
                known.pop(next(iter(known)))
            with torch.no_grad():
                # the request is kept along: its key counts inputs by identity
                known[request.key] = (request, dict(self.embed(request)))
        return known[request.key][1]

    def label(self, t: Time) -> Tensor:
        """What the network calls a time, float32 of the shape of ``t``."""
        t = torch.as_tensor(t, dtype=torch.float64)
        path = self.interpolant
        label = path.index_of(t) if isinstance(path, Table) else 1000 * (1 - t)
        return label.float()

    def predict(self, x: State, t: Time, condition: Encoding | None) -> State:
        return self.predict_at(x, t, self.label(t), condition)

    def predict_at(self, x: State, t: Time, label: Tensor, condition: Encoding | None) -> State:
        """Ask the network at a label of one's own, () or (rows,)."""
        if condition is None:
            nothing = self.encode([None])
            assert nothing is not None
            condition = repeated(nothing.to(x.device), len(x))
        assert isinstance(condition, Conditions)
        raw = self.ask(x.to(self._network_dtype), sent(label, x.device).expand(len(x)), condition)
        raw = raw.to(x.dtype)
        return -raw if self.predicts == "velocity" else raw  # the network's time runs towards noise

    @cached_property
    def _network_dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.network.parameters() if p.is_floating_point())

    def decode(self, x: State) -> Tensor:
        """Images in [0, 1], decoded a few at a time."""
        if self.decoder == "preview":
            return self.preview(x)
        with_tiny = self.decoder == "tiny"
        parts = [self._pixels(part, with_tiny) for part in x.split(self.decode_rows)]
        return torch.cat(parts)

    def _pixels(self, x: Tensor, with_tiny: bool) -> Tensor:
        latents = self._tiny_latents if with_tiny else self.latents
        return ((decoded(latents, self.unpacked(x)) + 1) / 2).clamp(0, 1)

    @cached_property
    def _tiny_latents(self) -> Latents:
        return Latents.of_tiny(self.tiny, self._network_dtype, self.device)

    def preview(self, x: State) -> Tensor:
        """Small images (rows, 3, height, width of the latents) by a linear map, fitted at the first call."""
        from itscale.models.pipelines.previews import preview

        return preview(self, x)

    def encode_image(self, images: Tensor, seed: int | None = None) -> State:
        """States of images (rows, 3, height, width) in [0, 1]: the mode of the autoencoder's posterior."""
        if tuple(images.shape[-2:]) != self.size:
            raise ConfigError(
                f"images are {tuple(images.shape[-2:])} and the model makes {self.size}; resize them"
            )
        with torch.no_grad():
            return self.packed(self.latents.encoded(images.to(self.device) * 2 - 1)).float()

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Given:
        return Given(self, condition, guidance)

    def scheduler(self, steps: int) -> Any:
        """A copy of the pipeline's scheduler with its times set for so many steps."""
        scheduler = deepcopy(self.pipe.scheduler)
        try:
            self.set_timesteps(scheduler, steps)
        except ValueError as error:
            raise ConfigError(f"{type(scheduler).__name__} has no {steps} steps: {error}") from error
        return scheduler

    def to(self, device: torch.device | str) -> PipelineModel:
        """Move the pipeline, unless it moves its parts itself (CPU offload, a device map)."""
        offloads = bool(getattr(self.pipe, "_all_hooks", ())) or getattr(self.pipe, "hf_device_map", None)
        offloads = offloads or any(hasattr(module, "_hf_hook") for module in self.modules)
        if not offloads and torch.device(device) != self.device:
            self.pipe.to(device)
            self._embedded.clear()
        return self

    @property
    def name(self) -> str:
        return f"{type(self.pipe).__name__}"


def make(family: type[PipelineModel], pipe: Any, options: Mapping[str, Any]) -> PipelineModel:
    """An adapter with checked options.

    Raises:
        UnknownName: for an option that the family does not take.
    """
    known = [f.name for f in fields(family) if f.init and f.name != "pipe"]
    for name in options:
        if name not in known:
            raise UnknownName(
                f"unknown option {name!r} of {type(pipe).__name__}.{did_you_mean(name, known)} "
                f"It takes: {', '.join(known)}"
            )
    return family(pipe=pipe, **options)


def _number(size: Any) -> float:
    return float(size) if isinstance(size, int | float) and math.isfinite(size) else 512.0
