"""Masked language models of transformers as masked models: BERT, MDLM and LLaDA kinds."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from itscale.errors import ConfigError, missing_extra
from itscale.models.algebra import Composable
from itscale.models.base import Given, Model
from itscale.models.token_space import TokenSpace

NOTHING = -1


@dataclass(frozen=True, eq=False, kw_only=True)
class LanguageModel(Composable):
    """A network that fills hidden tokens of a text, made by ``masked_language_model``.

    Conditions are texts that stand before what is generated. Under guidance the second half of the rows has
    hidden tokens in their place.
    """

    network: nn.Module
    tokenizer: Any
    tokens: TokenSpace
    length: int
    prompt_tokens: int
    frame: tuple[tuple[int, ...], tuple[int, ...]]
    times: str | None
    shift: bool
    rows_per_look: int = 1
    takes_time: bool = False
    modality: str = "text"

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.length,)

    def encode(self, conditions: Sequence[Any]) -> Int64[Tensor, "g prompt"] | None:
        """Tokens of prompts, (g, prompt_tokens), -1 where a prompt is shorter; None takes hidden tokens.

        Raises:
            ConfigError: for a prompt without ``prompt_tokens``, one that is longer, or anything but texts.
        """
        rows = torch.full((len(conditions), self.prompt_tokens), NOTHING)
        for row, condition in zip(rows, conditions, strict=True):
            if condition is None:
                row[:] = self.tokens.mask
                continue
            if not isinstance(condition, str):
                raise ConfigError(f"condition {condition!r} is no text; a language model takes prompts")
            found = self.tokenizer(condition, add_special_tokens=False)["input_ids"]
            if len(found) > self.prompt_tokens:
                raise ConfigError(
                    f"the prompt {condition!r} has {len(found)} tokens, and the model was made with "
                    f"prompt_tokens={self.prompt_tokens}; make it with more, or shorten the prompt"
                )
            if found:
                row[-len(found) :] = torch.tensor(found)
        return rows if self.prompt_tokens else None

    def predict(
        self, x: Int64[Tensor, "rows length"], t: Tensor, condition: Tensor | None
    ) -> Float[Tensor, "rows length vocabulary"]:
        """Logits of the positions that are generated; prompts of one length go in one call."""
        if condition is None or not self.prompt_tokens:
            return self._call(x, x.new_empty(len(x), 0))
        condition = condition.to(x.device)
        unused = (condition == NOTHING).sum(dim=1)
        logits: Tensor | None = None
        for count in unused.unique().tolist():
            chosen = unused == count
            found = self._call(x[chosen], condition[chosen, count:])
            logits = found.new_empty(len(x), *found.shape[1:]) if logits is None else logits
            logits[chosen] = found
        assert logits is not None, "there is at least one row"
        return logits

    def _call(self, x: Tensor, prompt: Tensor) -> Tensor:
        before, after = (x.new_tensor(ids).expand(len(x), -1) for ids in self.frame)
        whole = torch.cat([before, prompt, x, after], dim=1)
        extra = {} if self.times is None else {self.times: torch.zeros(len(x), device=x.device)}
        output = self.network(whole, **extra)
        raw = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if raw is None or raw.shape[:2] != whole.shape or raw.shape[2] < self.tokens.size:
            found = type(output).__name__ if raw is None else tuple(raw.shape)
            raise ConfigError(
                f"the language model must return logits {(*whole.shape, self.tokens.size)}, got {found}"
            )
        start = before.shape[1] + prompt.shape[1] - self.shift
        logits = raw[:, start : start + self.length, : self.tokens.size].float()
        logits = logits.clone() if logits.is_inference() or logits.requires_grad else logits
        logits[..., list(self.tokens.suppressed)] = -torch.inf
        return logits

    def decode(self, x: Tensor) -> list[str]:
        """Texts of complete sequences, special tokens left out."""
        return list(self.tokenizer.batch_decode(x.tolist(), skip_special_tokens=True))

    def given(self, condition: Any, guidance: float = 1.0) -> Given:
        return Given(cast(Model, self), condition, guidance)

    def to(self, device: torch.device | str) -> LanguageModel:
        """Move the network in place."""
        self.network.to(device)
        return replace(self)


def masked_language_model(
    source: Any,
    *,
    tokenizer: Any = None,
    length: int = 64,
    prompt_tokens: int = 0,
    mask: int | None = None,
    never: Sequence[int] | None = None,
    shift: bool = False,
    trust_remote_code: bool = False,
    allow_download: bool = False,
    dtype: torch.dtype | None = None,
) -> LanguageModel:
    """Make a masked model of a masked language model of transformers.

    BERT and its kind write between their own marks for beginning and end. MDLM takes a time that it does not
    use; it is called with zeros. LLaDA needs no more than tokens, and takes prompts as conditions; models
    that predict the token after a position, as Dream does, need ``shift``. Nothing is downloaded unasked.

    Args:
        source: a network, or a folder or hub id, which transformers opens.
        tokenizer: a tokenizer object, or its folder or id; None is that of ``source``.
        length: tokens to generate, prompt and marks not counted.
        prompt_tokens: the longest prompt; conditions are prompts if it is above 0.
        mask: the hiding token; None is that of the tokenizer, or of the network's configuration.
        never: tokens that are not generated; None are all special ones but the end of a text.
        shift: whether logits belong to the token after their position.
        trust_remote_code: whether code of the hub may run here, which MDLM and LLaDA are made of.
        allow_download: whether the hub may be asked for files.
        dtype: of the network's numbers; None leaves them.

    Raises:
        MissingExtra: for a folder or an id without transformers.
        ConfigError: for a source that cannot be opened, a network without a mask token, a ``shift`` without
            anything before the first token, and numbers that do not fit.

    Reference:
        Devlin et al. (2019), "BERT", arXiv:1810.04805; Sahoo et al. (2024), "Simple and Effective Masked
        Diffusion Language Models", arXiv:2406.07524; Nie et al. (2025), "Large Language Diffusion Models",
        arXiv:2502.09992.
    """
    for name, value, least in (("length", length, 1), ("prompt_tokens", prompt_tokens, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name} must be a whole number >= {least}, got {value!r}")
    opening = {"trust_remote_code": trust_remote_code, "local_files_only": not allow_download}
    network = source if isinstance(source, nn.Module) else _opened(str(source), opening)
    if tokenizer is None or isinstance(tokenizer, str):
        place = tokenizer or (None if isinstance(source, nn.Module) else str(source))
        if place is None:
            raise ConfigError("a network by itself needs tokenizer=, an object, a folder or a hub id")
        tokenizer = _opened_by("AutoTokenizer", place, opening)
    network = network.eval().requires_grad_(False)
    network = network if dtype is None else network.to(dtype)
    config = getattr(network, "config", None)
    if mask is None:
        candidates = (getattr(tokenizer, "mask_token_id", None), getattr(config, "mask_token_id", None))
        mask = next((c for c in candidates if c is not None), None)
    if mask is None:
        raise ConfigError("neither tokenizer nor network says which token hides a position; give mask=")
    size = max(getattr(config, "vocab_size", 0), len(tokenizer), mask + 1)
    if never is None:
        never = [i for i in tokenizer.all_special_ids if i not in (tokenizer.eos_token_id, mask)]
    marks = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    before, after = (() if mark is None else (int(mark),) for mark in marks)
    if shift and not before and not prompt_tokens:
        raise ConfigError("shift=True reads a token's logits one place earlier, so give prompt_tokens too")
    return LanguageModel(
        network=network,
        tokenizer=tokenizer,
        tokens=TokenSpace(size, int(mask), tuple(int(i) for i in never if i < size)),
        length=length,
        prompt_tokens=prompt_tokens,
        frame=(before, after),
        times=_time_argument(network),
        shift=shift,
    )


def _time_argument(network: nn.Module) -> str | None:
    """The name of a time that the network insists on."""
    parameters = inspect.signature(network.forward).parameters
    return next((name for name in ("timesteps", "sigma") if name in parameters), None)


def _opened(place: str, opening: dict[str, Any]) -> nn.Module:
    """A network with a head for masked tokens, or one whose own class has one, as LLaDA's."""
    try:
        return _opened_by("AutoModelForMaskedLM", place, opening)
    except ConfigError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        return _opened_by("AutoModel", place, opening)


def _opened_by(kind: str, place: str, opening: dict[str, Any]) -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise missing_extra("transformers", "images", "a language model of the hub") from error
    try:
        return getattr(transformers, kind).from_pretrained(place, **opening)
    except (OSError, ValueError) as error:
        hint = "" if not opening["local_files_only"] else "; a hub id needs allow_download=True to be fetched"
        raise ConfigError(f"{kind} cannot open {place!r}{hint}: {error}") from error
