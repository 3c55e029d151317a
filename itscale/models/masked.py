"""Masked models: networks that say of every hidden position which tokens may stand there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from itscale.errors import ConfigError, unknown_name
from itscale.models.algebra import Composable
from itscale.models.base import Given, Model
from itscale.models.plain_conditions import stack_conditions
from itscale.models.token_space import TokenSpace
from itscale.scoring.spec import MODALITIES

Decoder = Callable[[Tensor], Any]


class MaskedModel(Protocol):
    """What the engine asks of a masked model. Sequences are int64 tokens (rows, length).

    Attributes:
        tokens: vocabulary and mask token; a model that has this is a masked model.
        event_shape: ``(length,)``.
        modality: what ``decode`` returns, ``"sequence"``, ``"molecule"``, ``"text"``.
        rows_per_look: network rows per sequence: 1, or 2 under guidance.
        takes_time: whether logits depend on the time beside the tokens.
    """

    @property
    def tokens(self) -> TokenSpace: ...
    @property
    def event_shape(self) -> tuple[int, ...]: ...
    @property
    def modality(self) -> str: ...
    @property
    def rows_per_look(self) -> int: ...
    @property
    def takes_time(self) -> bool: ...

    def encode(self, conditions: Sequence[Any]) -> Tensor | None:
        """Turn one condition per group into a tensor ``(g, ...)``, or None if the network takes none."""
        ...

    def predict(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """Return logits (rows, length, V); those of visible positions are not used."""
        ...

    def decode(self, x: Tensor) -> Any:
        """Turn complete sequences into what rewards see: a tensor, or a list of texts."""
        ...

    def given(self, condition: Any, guidance: float = 1.0) -> Any: ...

    def to(self, device: torch.device | str) -> Any: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class WrappedMasked(Composable):
    """A callable ``module(tokens)`` as a masked model, checked by ``wrap_masked``."""

    module: Callable[..., Tensor]
    tokens: TokenSpace
    length: int
    conditional: bool
    takes_time: bool
    decoder: Decoder
    modality: str
    null_condition: Any
    pattern: Callable[[str], Tensor] | None = None
    rows_per_look: int = 1

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.length,)

    def encode(self, conditions: Sequence[Any]) -> Tensor | None:
        """Stack one condition per group, as ``stack_conditions`` does."""
        return stack_conditions(
            conditions, self.conditional, self.null_condition, "module(tokens, condition=...)", "wrap_masked"
        )

    def predict(
        self, x: Int64[Tensor, "rows length"], t: Tensor, condition: Tensor | None
    ) -> Float[Tensor, "rows length vocabulary"]:
        """Call the network; tokens that are never generated get a logit of -inf.

        Raises:
            ConfigError: if it returns anything but floating-point logits (rows, length, vocabulary).
        """
        given: dict[str, Tensor] = {}
        if self.conditional:
            if condition is None:
                nothing = self.encode([None])
                assert nothing is not None, "a conditional model encodes None, or refuses it"
                condition = nothing.expand(len(x), *nothing.shape[1:])
            given["condition"] = condition.to(x.device)
        if self.takes_time:
            given["t"] = t.to(x.device, torch.float32).expand(len(x))
        raw = self.module(x, **given)
        expected = (*x.shape, self.tokens.size)
        if not isinstance(raw, Tensor) or raw.shape != expected or not raw.is_floating_point():
            found = f"{raw.dtype} {tuple(raw.shape)}" if isinstance(raw, Tensor) else type(raw).__name__
            raise ConfigError(
                f"module must return floating-point logits (rows, length, V) = {expected}, got {found}"
            )
        if self.tokens.suppressed:
            raw = raw.clone() if raw.requires_grad else raw
            raw[..., list(self.tokens.suppressed)] = -torch.inf
        return raw

    def decode(self, x: Tensor) -> Any:
        return self.decoder(x)

    def given(self, condition: Any, guidance: float = 1.0) -> Given:
        return Given(cast(Model, self), condition, guidance)

    def to(self, device: torch.device | str) -> WrappedMasked:
        """Move the module in place; a plain function stays as it is."""
        if isinstance(self.module, nn.Module):
            self.module.to(device)
        return replace(self)


def wrap_masked(
    module: Callable[..., Tensor],
    *,
    vocabulary: int,
    length: int,
    mask: int | None = None,
    never: Sequence[int] = (),
    conditional: bool = False,
    time: bool = False,
    decode: Decoder | None = None,
    modality: str | None = None,
    null_condition: Any = None,
    noise: Literal["mask", "uniform"] = "mask",
    pattern: Callable[[str], Tensor] | None = None,
) -> WrappedMasked:
    """Make a masked model of a network of one's own.

    An ``nn.Module`` is switched to evaluation and its parameters stop requiring gradients, in place.

    Args:
        module: called as ``module(tokens)`` with int64 tokens (rows, length), hidden positions holding
            ``mask``; returns logits (rows, length, vocabulary) for the tokens of a complete sequence. The
            optimal ones depend on the visible tokens alone, so a time is passed only where asked for.
        vocabulary: number of tokens, V, which is the number of columns.
        length: of all sequences; shorter ones end with a token that pads them, which the model predicts too.
        mask: the token that hides a position; None is ``vocabulary``, the first number after the tokens.
        never: tokens that are not to be generated.
        conditional: whether the network is called as ``module(tokens, condition=...)``.
        time: whether it is called with ``t=``, (rows,) float32; 0 all hidden, 1 complete.
        decode: complete sequences (rows, length) to what rewards see: a tensor, or a list of texts. Default:
            the tokens.
        modality: what ``decode`` returns; ``"sequence"`` by default.
        null_condition: what the network takes for "no condition"; guidance needs it.
        noise: what the network was trained on: hidden positions, or ``"uniform"``: tokens replaced by others
            at random, which it sees without knowing which; it usually takes the time then.
        pattern: a text to tokens (length,) with the mask token where tokens are to be generated, such as
            ``models.Pattern(symbols, length, mask)``; then ``sample(initial="AC__")`` takes texts.

    Raises:
        ConfigError: naming the argument at fault.

    Example:
        >>> import torch
        >>> model = wrap_masked(lambda x: torch.zeros(*x.shape, 4), vocabulary=4, length=8)
        >>> model.tokens.mask
        4

    Reference:
        Sahoo et al. (2024), "Simple and Effective Masked Diffusion Language Models", arXiv:2406.07524; Shi et
        al. (2024), "Simplified and Generalized Masked Diffusion for Discrete Data", arXiv:2406.04329.
    """
    if not callable(module):
        raise ConfigError(f"module must be callable as module(tokens), got {type(module).__name__}")
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ConfigError(f"length must be a whole number >= 1, got {length!r}")
    space = TokenSpace(vocabulary, vocabulary if mask is None else mask, tuple(never), noise)
    if decode is not None and not callable(decode):
        raise ConfigError(f"decode must be callable on tokens, got {type(decode).__name__}")
    if null_condition is not None and not conditional:
        raise ConfigError(f"null_condition {null_condition!r} needs conditional=True")
    if modality is None:
        modality = "sequence"
    elif modality not in MODALITIES:
        raise unknown_name("modality", modality, MODALITIES)
    if isinstance(module, nn.Module):
        module.eval().requires_grad_(False)
    return WrappedMasked(
        module=module,
        tokens=space,
        length=length,
        conditional=bool(conditional),
        takes_time=bool(time),
        decoder=decode or _unchanged,
        modality=modality,
        null_condition=null_condition,
        pattern=pattern,
    )


def _unchanged(x: Tensor) -> Tensor:
    return x
