"""A researcher's own network as a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from itscale.errors import ConfigError, unknown_name
from itscale.interpolants import KINDS, Interpolant, get_interpolant
from itscale.models.algebra import Composable
from itscale.models.base import Given
from itscale.models.guidance import GuidanceLike
from itscale.models.likelihood import log_prob
from itscale.models.plain_conditions import shortly, stack_conditions
from itscale.scoring.spec import MODALITIES
from itscale.types import PerRow, State, Time


@dataclass(frozen=True, eq=False, kw_only=True)
class Wrapped(Composable):
    """A callable ``module(x, t)`` or ``module(x, t, condition)`` as a model, checked by ``wrap``."""

    module: Callable[..., Tensor]
    predicts: Literal["velocity", "noise", "denoised", "v"]
    interpolant: Interpolant
    event_shape: tuple[int, ...]
    conditional: bool
    decoder: Callable[[Tensor], Tensor]
    modality: str
    null_condition: Any
    rows_per_look: int = 1

    def encode(self, conditions: Sequence[Any]) -> Tensor | None:
        """Stack one condition per group, as ``stack_conditions`` does."""
        return stack_conditions(
            conditions, self.conditional, self.null_condition, "module(x, t, condition)", "wrap"
        )

    def predict(self, x: State, t: Time, condition: Tensor | None) -> State:
        """Call the network in its own dtype with one time per row.

        Raises:
            ConfigError: if it returns anything but a tensor shaped as ``x``.
        """
        dtype = self._dtype(x)
        # half precision holds three digits of a time: the network embeds it in float32 and narrows it itself
        time_dtype = torch.float32 if dtype.itemsize == 2 else dtype
        inputs = [x.to(dtype), t.to(x.device, time_dtype).expand(len(x))]
        if self.conditional:
            if condition is None:
                nothing = self.encode([None])
                assert nothing is not None, "a conditional model encodes None, or refuses it"
                condition = nothing.expand(len(x), *nothing.shape[1:])
            condition = condition.to(x.device)
            inputs.append(condition.to(dtype) if condition.is_floating_point() else condition)
        raw = self.module(*inputs)
        if not isinstance(raw, Tensor) or raw.shape != x.shape:
            raise ConfigError(
                f"module must return a tensor shaped as x, {tuple(x.shape)}, got {shortly(raw)}; "
                "wrap a function that picks the right output"
            )
        return raw.to(x.dtype)

    @property
    def affine(self) -> tuple[float, float] | None:
        """Scale and shift of ``decode`` up to its clamp; None for a decoder of one's own."""
        if self.decoder is _unit_image:
            return (0.5, 0.5)
        return (1.0, 0.0) if self.decoder is _unchanged else None

    def decode(self, x: State) -> Tensor:
        return self.decoder(x)

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Given:
        return Given(self, condition, guidance)

    def log_prob(self, x: State, condition: Any = None, **options: Any) -> PerRow:
        """Log-density of states by the ODE; options, cost and error as in ``models.log_prob``."""
        return log_prob(self, x, condition, **options).values

    def to(self, device: torch.device | str) -> Wrapped:
        """Move the module in place; a plain function stays as it is."""
        if isinstance(self.module, nn.Module):
            self.module.to(device)
        return self

    def _dtype(self, x: Tensor) -> torch.dtype:
        if isinstance(self.module, nn.Module):
            for parameter in self.module.parameters():
                if parameter.is_floating_point():
                    return parameter.dtype
        return x.dtype


def wrap(
    module: Callable[..., Tensor],
    *,
    predicts: Literal["velocity", "noise", "denoised", "v"],
    interpolant: str | Interpolant,
    event_shape: Sequence[int],
    conditional: bool = False,
    decode: Callable[[Tensor], Tensor] | None = None,
    modality: str | None = None,
    null_condition: Any = None,
) -> Wrapped:
    """Make a model of a network of one's own.

    An ``nn.Module`` is switched to evaluation and its parameters stop requiring gradients, in place.

    Args:
        module: called as ``module(x, t)`` or ``module(x, t, condition)``, ``x (rows, *event_shape)`` in the
            module's dtype and ``t (rows,)``, 0 noise and 1 data (float32 under a half-precision module). For
            a network that counts from data to noise pass ``lambda x, t: network(x, 1 - t)``, and change the
            sign of a velocity: it is the derivative in itscale's time. A function sees the states' dtype.
        predicts: ``"velocity"``, ``"noise"``, ``"denoised"`` or ``"v"``.
        interpolant: the path it was trained on, as a name or an object.
        event_shape: shape of one state.
        conditional: whether the network takes a condition.
        decode: states to what rewards see. Default: for images, from [-1, 1] to [0, 1]; else unchanged.
        modality: what ``decode`` returns. Default: ``"image"`` for shapes (1 or 3, height, width),
            ``"vector"`` for shapes of one axis, else ``"latent"``.
        null_condition: what the network takes for "no condition"; guidance needs it.

    Raises:
        ConfigError: naming the argument at fault.

    Example:
        >>> model = wrap(lambda x, t: -x, predicts="velocity", interpolant="linear", event_shape=(2,))
        >>> model.modality
        'vector'
    """
    if not callable(module):
        raise ConfigError(f"module must be callable as module(x, t), got {shortly(module)}")
    if predicts not in KINDS:
        raise unknown_name("prediction (predicts)", predicts, KINDS)
    shape = _event_shape(event_shape)
    if not isinstance(conditional, bool):
        raise ConfigError(f"conditional must be True or False, got {conditional!r}")
    if null_condition is not None and not conditional:
        raise ConfigError(f"null_condition {shortly(null_condition)} needs conditional=True")
    if decode is not None and not callable(decode):
        raise ConfigError(f"decode must be callable on states, got {shortly(decode)}")
    is_image = len(shape) == 3 and shape[0] in (1, 3)
    if modality is None:
        modality = "image" if is_image else "vector" if len(shape) == 1 else "latent"
    elif modality not in MODALITIES:
        raise unknown_name("modality", modality, MODALITIES)
    if decode is None:
        decode = _unit_image if is_image and modality == "image" else _unchanged
    if isinstance(module, nn.Module):
        module.eval().requires_grad_(False)
    return Wrapped(
        module=module,
        predicts=predicts,
        interpolant=get_interpolant(interpolant),
        event_shape=shape,
        conditional=conditional,
        decoder=decode,
        modality=modality,
        null_condition=null_condition,
    )


def _event_shape(event_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(event_shape) if isinstance(event_shape, (tuple, list, torch.Size)) else ()
    if not shape or any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in shape):
        raise ConfigError(
            f"event_shape must be a tuple of positive integers such as (3, 32, 32), got {event_shape!r}"
        )
    return shape


def _unit_image(x: Tensor) -> Tensor:
    return ((x + 1) / 2).clamp(0, 1)


def _unchanged(x: Tensor) -> Tensor:
    return x
