"""Families without an adapter: pipelines of modular blocks, read by what their blocks do.

A modular pipeline is a tree of blocks that share a state: encoders, the preparation of latents and times, a
loop whose first parts ask the network and whose last part is the scheduler's step, decoders. The blocks
before the loop are run once per prompt, the loop's parts before the scheduler's step at every look, and the
blocks after the loop to decode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.conditions import Conditions
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.paths import is_flow
from itscale.models.pipelines.requests import Request

KNOWN = ("0.42",)
"""Releases of diffusers whose blocks are read here; the interface still changes from one to the next."""
NEVER = ("latents", "noise_pred", "timesteps")
"""What the loop's state holds beside conditions."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Modular(PipelineModel):
    """A modular pipeline of a flow: its own blocks encode, ask the network and decode.

    What has an entry more in a state of two pictures than in one of one belongs to a picture. A guider of
    the pipeline is switched off, in place: ``guidance`` is classifier-free guidance, away from
    ``negative_prompt`` or an empty text.

    Attributes:
        arguments: what the pipeline's call is given beside prompt and size, such as ``guidance_scale`` where
            the network is told a weight.

    Raises:
        ConfigError: for a release of diffusers that is not known, a pipeline without a loop, or a scheduler
            that is no flow's.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)

    family: ClassVar[str] = "modular"
    classes: ClassVar[tuple[str, ...]] = ("ModularPipeline",)

    def __post_init__(self) -> None:
        check_release()
        if not is_flow(self.pipe.scheduler):
            raise ConfigError(
                f"{type(self.pipe).__name__} has {type(self.pipe.scheduler).__name__}, and modular pipelines "
                "are read for flows alone; load the pipeline of its family, or write an adapter "
                "(docs/pipelines.md)"
            )
        if self.decoder != "full":
            raise ConfigError(
                f"decoder={self.decoder!r}: the blocks of a modular pipeline decode by themselves; leave it "
                "out"
            )
        if (guider := getattr(self.pipe, "guider", None)) is not None:
            guider.disable()
        super().__post_init__()

    @property
    def network(self) -> Any:
        return self.pipe.transformer

    @property
    def native_size(self) -> int:
        return int(self.pipe.default_height)

    @property
    def multiple(self) -> int:
        return 2 * self.latents.factor

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self._reached.block.latents.shape[1:])

    @property
    def token_count(self) -> int:
        shape = self.event_shape
        patch = int(self.network.config.get("patch_size", 1))
        return shape[0] if len(shape) == 2 else shape[-2] * shape[-1] // patch**2

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        found = vars(self._before_the_loop(request.prompt or "").block)
        return {name: found[name][0] for name in self._of_a_picture}

    def set_timesteps(self, scheduler: Any, steps: int) -> None:
        self._before_the_loop("", num_inference_steps=steps)

    def scheduler(self, steps: int) -> Any:
        super().scheduler(steps)  # the blocks set the times of the pipeline's own scheduler
        return deepcopy(self.pipe.scheduler)

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        state = copy(self._reached.block)
        for name in self._of_a_picture:
            setattr(state, name, given[name])
        state.latents = x
        for name, part in self._loop.sub_blocks.items():
            if name.startswith("after"):
                break
            _, state = _open(part)(self.pipe, state, i=0, t=label)
        return state.noise_pred

    def _pixels(self, x: Tensor, with_tiny: bool) -> Tensor:
        state = _renewed(self._reached.state)
        state.set("latents", x.to(self.pipe.vae.dtype))
        state.set("output_type", "pt")
        for block in self._after_the_loop():
            _, state = _open(block)(self.pipe, state)
        return state.get("images").float().clamp(0, 1)

    def packed(self, z: Tensor) -> Tensor:
        raise ConfigError("the blocks of a modular pipeline pack its states; start from noise")

    def to(self, device: torch.device | str) -> PipelineModel:
        before = self.device
        super().to(device)
        if self.device != before:
            vars(self).pop("_reached", None)  # what the blocks made lies where they were
        return self

    # --- the tree of blocks -------------------------------------------------------------------------------

    @property
    def _loops(self) -> list[tuple[list[tuple[Any, str]], Any]]:
        """Loops over times, each with the way to it from the root."""
        return list(_found(self.pipe._blocks, []))

    @cached_property
    def _reached(self) -> _Reached:
        return self._before_the_loop("")

    @property
    def _loop(self) -> Any:
        return self._reached.loop

    @cached_property
    def _of_a_picture(self) -> tuple[str, ...]:
        """Names of what belongs to a picture, and so has a row for each."""
        one = vars(self._reached.block)
        two = vars(self._before_the_loop("", num_images_per_prompt=2).block)
        return tuple(
            name
            for name, value in one.items()
            if isinstance(value, Tensor)
            and name not in NEVER
            and value.ndim
            and len(value) == 1
            and len(two[name]) == 2
        )

    def _before_the_loop(self, prompt: str, **more: Any) -> _Reached:
        """Run the blocks up to the loop, which stops them."""
        loops = self._loops
        height, width = self.size
        for _, loop in loops:
            loop.get_block_state = _stopping(loop)
        try:
            with torch.no_grad():
                self.pipe(
                    prompt=prompt,
                    height=height,
                    width=width,
                    output_type="latent",
                    **{"num_images_per_prompt": 1, "num_inference_steps": 2, **self.arguments, **more},
                )
        except _Reached as reached:
            return reached
        finally:
            for _, loop in loops:
                del loop.get_block_state
        raise ConfigError(
            f"{type(self.pipe).__name__} has no loop over times that it runs for a prompt; load the pipeline "
            "of its family, or write an adapter (docs/pipelines.md)"
        )

    def _after_the_loop(self) -> Iterator[Any]:
        """The blocks that follow the loop, innermost first."""
        way = next(way for way, loop in self._loops if loop is self._loop)
        for block, child in reversed(way):
            if _chooses(block):
                continue
            names = list(block.sub_blocks)
            yield from (block.sub_blocks[name] for name in names[names.index(child) + 1 :])


class _Reached(BaseException):
    """The loop was reached; not an error, which blocks would write about."""

    def __init__(self, loop: Any, state: Any, block: Any) -> None:
        super().__init__()
        self.loop, self.state, self.block = loop, state, block


def _stopping(loop: Any) -> Any:
    plain = type(loop).get_block_state

    def get_block_state(state: Any) -> Any:
        raise _Reached(loop, state, plain(loop, state))

    return get_block_state


def _found(block: Any, way: list[tuple[Any, str]]) -> Iterator[tuple[list[tuple[Any, str]], Any]]:
    kind = import_module("diffusers.modular_pipelines").LoopSequentialPipelineBlocks
    if isinstance(block, kind):
        yield way, block
        return
    for name, child in (getattr(block, "sub_blocks", None) or {}).items():
        yield from _found(child, [*way, (block, name)])


def _chooses(block: Any) -> bool:
    """Whether a block runs one of its parts."""
    return isinstance(block, import_module("diffusers.modular_pipelines").ConditionalPipelineBlocks)


def _open(block: Any) -> Any:
    """A block's call; those of diffusers are closed to gradients by a decorator."""
    plain = type(block).__call__
    return partial(getattr(plain, "__wrapped__", plain), block)


def _renewed(state: Any) -> Any:
    """A state whose values may be set without changing the other; tensors are shared."""
    new = copy(state)
    new.values = dict(state.values)
    return new


def check_release() -> None:
    """Raise ConfigError unless modular blocks of the installed diffusers are known."""
    release = import_module("diffusers").__version__
    minor = ".".join(re.findall(r"\d+", release)[:2])
    if minor not in KNOWN:
        raise ConfigError(
            f"modular pipelines are read for diffusers {', '.join(KNOWN)}, and this is {release}; install "
            "one of these, load the pipeline of its family, or write an adapter (docs/pipelines.md)"
        )
