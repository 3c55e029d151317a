"""What a condition of a pipeline asks for: a prompt, or a mapping with a prompt and more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from itscale.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """A condition, read.

    Attributes:
        prompt: what to make; None is unconditional.
        negative: what guidance leads away from; None is the model's own.
        inputs: what else the network is given: images of an adapter, a control image.
        is_opposite: it says what guidance leads away from.
    """

    prompt: Any
    negative: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    is_opposite: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for conditions that are encoded alike; inputs count by identity."""
        inputs = tuple((name, id(value)) for name, value in self.inputs.items())
        return (self.prompt, self.is_opposite and bool(inputs), inputs)

    @property
    def opposite(self) -> Request:
        """What guidance leads away from."""
        return Request(self.negative, None, self.inputs, is_opposite=True)

    @property
    def is_own(self) -> bool:
        """Whether the condition itself says what guidance leads away from."""
        return self.negative is not None or bool(self.inputs)


def read_request(condition: Any, inputs: tuple[str, ...]) -> Request:
    """Read a condition of a text-to-image model.

    Args:
        condition: a text, None, or a mapping with ``prompt``, perhaps ``negative_prompt``, the inputs that
            the model takes, and anything else, which is kept for rewards.
        inputs: names of what the network takes beside the prompt.

    Raises:
        ConfigError: for anything else, and for an input that the pipeline has no part for.
    """
    if condition is None or isinstance(condition, str):
        return Request(condition)
    if not isinstance(condition, Mapping):
        raise ConfigError(
            f"condition {condition!r:.80} is no prompt; give a text, None, or a mapping such as "
            '{"prompt": "a red cube", "negative_prompt": "blurry"}'
        )
    prompt, negative = condition.get("prompt"), condition.get("negative_prompt")
    for name, value in (("prompt", prompt), ("negative_prompt", negative)):
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"condition has {name} {value!r:.80}; give a text")
    for name in KNOWN_INPUTS:
        if condition.get(name) is not None and name not in inputs:
            raise ConfigError(
                f"condition has {name!r}, and this pipeline has no part for it; {KNOWN_INPUTS[name]}"
            )
    given = {name: condition[name] for name in inputs if condition.get(name) is not None}
    return Request(prompt, negative, given)


def inputs_of(pipe: Any, has_adapter: bool) -> tuple[str, ...]:
    """What conditions may hold for the parts of a pipeline: an image for an adapter, one for a ControlNet.

    Raises:
        ConfigError: for several ControlNets at once.
    """
    control: Any = getattr(pipe, "controlnet", None)
    if (several := getattr(control, "nets", None)) is not None:
        raise ConfigError(
            f"{type(pipe).__name__} has {len(several)} ControlNets, and a condition has one control_image; "
            "make the pipeline with one of them"
        )
    adapter = ("ip_adapter_image",) if has_adapter else ()
    return adapter if control is None else (*adapter, "control_image")


KNOWN_INPUTS = {
    "ip_adapter_image": "load one with pipe.load_ip_adapter(...) first",
    "control_image": "make the pipeline with a ControlNet, such as StableDiffusionControlNetPipeline",
}
