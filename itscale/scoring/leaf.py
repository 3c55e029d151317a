"""One function as a reward: called in batches, with its failures kept to the samples that caused them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from itscale.errors import ConfigError, ItscaleError, MissingExtra, RewardError
from itscale.scoring.facts import inspect_signature, take_facts
from itscale.scoring.images import as_rgb
from itscale.scoring.spec import RewardSpec, Scores, as_real, as_scores


class Leaf(Protocol):
    """A reward that is not composed of others. Samples and facts arrive checked and complete."""

    @property
    def spec(self) -> RewardSpec: ...
    @property
    def label(self) -> str: ...
    @property
    def wanted(self) -> tuple[str, ...]: ...

    def score(self, samples: Any, facts: Mapping[str, Any], batch_size: int | None) -> Scores: ...
    def raw(self, samples: Any, facts: Mapping[str, Any]) -> Tensor: ...


class Piece(NamedTuple):
    """The outcome of one call for ``k`` samples, before anything is made of odd numbers."""

    values: Tensor
    valid: Tensor | None = None
    parts: Mapping[str, Tensor] = {}
    reasons: list[str] | None = None


class FunctionLeaf:
    """A callable ``(samples, **facts) -> [m]`` with its facts.

    What it remembers: the batch size that memory allowed, and whether it ever worked.

    Args:
        function: returns numbers ``[m]`` in any form that ``as_scores`` reads, or ``Scores``.
        spec: its facts.
        label: how it appears in names and parts.
        options: arguments bound to parameters that are not facts.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        spec: RewardSpec,
        *,
        label: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.options = dict(options or {})
        self.signature = inspect_signature(function, spec.name, bound=self.options)
        changes: dict[str, Any] = {}
        if spec.modality == "any":
            changes["modality"] = self.signature.modality
        if "prompts" in self.signature.required:
            changes["needs_prompt"] = True
        self.spec = replace(spec, **changes)
        self.label = label or spec.name
        self.limit: int | None = None
        self.has_worked = False

    @property
    def wanted(self) -> tuple[str, ...]:
        """The facts that its scores may depend on."""
        return self.signature.names

    def raw(self, samples: Any, facts: Mapping[str, Any]) -> Tensor:
        """Call the function once for all samples and keep the graph; nothing is caught."""
        return self._call(samples, facts, len(samples)).values

    def score(self, samples: Any, facts: Mapping[str, Any], batch_size: int | None) -> Scores:
        """Score ``m`` samples in batches.

        Raises:
            RewardError: if it fails for every sample (a lone sample after earlier successes is
                only invalid), misses a package, or runs out of memory with a single sample.
            RewardShapeError: if a call does not return one number per sample.
        """
        m = len(samples)
        device = samples.device if isinstance(samples, Tensor) else torch.device("cpu")
        errors: list[Exception] = []
        pieces = list(self._pieces(samples, facts, m, batch_size or self.spec.batch_size or m, errors))
        if m and len(errors) == m and (m > 1 or not self.has_worked):
            raise RewardError(
                f"reward {self.label!r} failed for all {m} samples: {last_line(errors[0])}. "
                "Call it on one sample yourself to see the whole traceback"
            ) from errors[0]
        self.has_worked |= len(errors) < m
        joined = join(pieces, device)
        return Scores.of(
            joined.values,
            valid=joined.valid,
            parts=dict(joined.parts),
            reasons=joined.reasons,
            floor=self.spec.floor,
        )

    def _pieces(
        self, samples: Any, facts: Mapping[str, Any], m: int, size: int, errors: list[Exception]
    ) -> Iterator[Piece]:
        start = 0
        while start < m:
            here = slice(start, min(m, start + min(size, self.limit or size)))
            k = here.stop - start
            try:
                piece = self._call(samples[here], take_facts(facts, here), k)
            except Exception as error:
                if self._shrink(error, k):
                    continue
                if k == 1:
                    errors.append(error)
                    yield _failed(error)
                else:
                    one_by_one = take_facts(facts, here)
                    yield from self._pieces(samples[here], one_by_one, k, 1, errors)
            else:
                yield piece
            start = here.stop

    def _shrink(self, error: Exception, k: int) -> bool:
        """Halve the batch if memory ran out (True); pass on what no retry can mend."""
        if isinstance(error, ItscaleError) and not isinstance(error, MissingExtra):
            raise error
        if isinstance(error, ImportError):
            raise RewardError(f"reward {self.label!r} cannot run: {error}") from error
        if not is_out_of_memory(error):
            return False
        if k == 1:
            raise RewardError(
                f"reward {self.label!r} ran out of memory with a single sample: {last_line(error)}. "
                "Move it to another device, or score smaller samples"
            ) from error
        self.limit = k // 2
        return True

    def _call(self, samples: Any, facts: Mapping[str, Any], k: int) -> Piece:
        if self.spec.needs_rgb:
            samples = as_rgb(samples)
        chosen = self.signature.choose(facts)
        missing = [name for name in self.signature.required if name not in chosen]
        if missing:
            raise ConfigError(
                f"reward {self.label!r} needs {', '.join(missing)}, which this run does not have; "
                "pass them, or give the parameter a default"
            )
        if self.signature.samples is None:
            out = self.function(samples, **chosen, **self.options)
        else:
            out = self.function(**{self.signature.samples: samples}, **chosen, **self.options)
        if isinstance(out, Scores):
            values = as_scores(out.values, k, self.label)
            return Piece(values, out.valid, out.parts, out.reasons)
        return Piece(as_scores(out, k, self.label))


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that host or device memory ran out."""
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    if isinstance(error, kinds):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def last_line(error: BaseException) -> str:
    """The last line of an exception's traceback, as Python would print it."""
    return traceback.format_exception_only(type(error), error)[-1].strip()


def _failed(error: Exception) -> Piece:
    return Piece(torch.full((1,), float("nan")), torch.zeros(1, dtype=torch.bool), {}, [last_line(error)])


def join(pieces: list[Piece], device: torch.device) -> Piece:
    """Concatenate pieces in order; a part that a piece lacks is NaN there."""
    if not pieces:
        return Piece(torch.zeros(0, device=device))
    values = _one([as_real(p.values).to(device) for p in pieces])
    valid = None
    if any(p.valid is not None for p in pieces):
        flags = [torch.ones_like(p.values, dtype=torch.bool) if p.valid is None else p.valid for p in pieces]
        valid = _one([flag.to(device) for flag in flags])
    names = dict.fromkeys(name for p in pieces for name in p.parts)
    parts = {}
    for name in names:
        columns = [
            p.parts.get(name, torch.full_like(p.values, float("nan"), dtype=torch.float32)) for p in pieces
        ]
        parts[name] = _one([as_real(column).to(device) for column in columns])
    reasons = None
    if any(p.reasons is not None for p in pieces):
        reasons = [r for p in pieces for r in (p.reasons or [""] * len(p.values))]
    return Piece(values, valid, parts, reasons)


def _one(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
