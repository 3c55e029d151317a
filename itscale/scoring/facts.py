"""Facts: what a reward may ask for by parameter name, and how a signature is matched to them.

=============================  =============================================================
``images samples smiles texts``  the samples themselves
``prompts``                      list of ``m`` strings or None
``conditions``                   tensor ``[m, ...]`` or list of ``m`` conditions of the model
``meta``                         list of ``m`` dictionaries
``step``                         index of the step in the trajectory, one or ``[m]`` where they differ
``t``                            time in [0, 1], 1 is data; one or ``[m]``
``is_final``                     whether samples are the end of the trajectory, one or ``[m]``
=============================  =============================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeGuard

from torch import Tensor, nn

from itscale.errors import ConfigError, unknown_name

SAMPLE_NAMES = ("samples", "images", "smiles", "texts")
PER_SAMPLE = ("prompts", "conditions", "meta")
PER_CALL = ("step", "t", "is_final")
FACTS = (*PER_SAMPLE, *PER_CALL)
MODALITY_OF = {"images": "image", "smiles": "molecule", "texts": "text"}


@dataclass(frozen=True)
class Wanted:
    """How one function wants to be called.

    Attributes:
        samples: the parameter that gets the samples, ``None`` for "the first, by position".
        facts: the facts it names.
        required: those of them without a default.
        everything: it ends in ``**facts`` and gets all there are (``**_`` gets none).
    """

    samples: str | None
    facts: tuple[str, ...]
    required: tuple[str, ...]
    everything: bool

    @property
    def modality(self) -> str:
        """What the name of the samples' parameter says about them."""
        return MODALITY_OF.get(self.samples or "", "any")

    @property
    def names(self) -> tuple[str, ...]:
        """The facts that the function may be called with."""
        return FACTS if self.everything else self.facts

    def choose(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The facts that the function is called with."""
        return {name: facts[name] for name in self.names if name in facts}


def inspect_signature(function: Callable[..., Any], name: str, bound: Iterable[str] = ()) -> Wanted:
    """Match a function's parameters to the samples and the facts; done once per reward.

    Args:
        function: a function, a module (its ``forward`` counts) or an object with ``__call__``.
        name: of the reward, for messages.
        bound: parameters that get their value elsewhere.

    Raises:
        ConfigError: if it takes no samples, or requires a parameter that is not a fact.
    """
    try:
        seen = function.forward if isinstance(function, nn.Module) else function
        parameters = list(inspect.signature(seen).parameters.values())
    except (TypeError, ValueError):  # a C function without a signature
        return Wanted(None, (), (), False)
    _refuse_unknown(bound, parameters, name)
    parameters = [p for p in parameters if p.name not in bound]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p for p in parameters if p.kind not in variable]
    samples, rest = _samples_parameter(named, parameters, name)
    for parameter in rest:
        if parameter.name not in FACTS and parameter.default is parameter.empty:
            raise unknown_name(
                f"required parameter of reward {name!r}", parameter.name, (*SAMPLE_NAMES, *FACTS)
            )
    facts = [p for p in rest if p.name in FACTS]
    swallowing = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    return Wanted(
        samples=samples,
        facts=tuple(p.name for p in facts),
        required=tuple(p.name for p in facts if p.default is p.empty),
        everything=any(not name.startswith("_") for name in swallowing),
    )


def _refuse_unknown(bound: Iterable[str], parameters: list[inspect.Parameter], name: str) -> None:
    options = [p.name for p in parameters if p.name not in (*SAMPLE_NAMES, *FACTS)]
    for argument in bound:
        if argument not in options:
            raise unknown_name(f"argument of reward {name!r}:", argument, options)


def _samples_parameter(
    named: list[inspect.Parameter], parameters: list[inspect.Parameter], name: str
) -> tuple[str | None, list[inspect.Parameter]]:
    for parameter in named:
        if parameter.name in SAMPLE_NAMES and parameter.kind is not parameter.POSITIONAL_ONLY:
            return parameter.name, [p for p in named if p is not parameter]
    if named and named[0].name not in FACTS and named[0].kind is not named[0].KEYWORD_ONLY:
        return None, named[1:]
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return None, named
    raise ConfigError(
        f"reward {name!r} takes no samples; name a parameter one of {', '.join(SAMPLE_NAMES)}, "
        "or let its first parameter be the samples"
    )


def complete_facts(facts: Mapping[str, Any] | None, m: int) -> dict[str, Any]:
    """Bring facts into one form: per-sample facts have length ``m``, single ones are repeated.

    Prompts that are not given are the texts in the conditions, and meta is what these say beside them.

    Raises:
        ConfigError: for an unknown fact, or one whose length is not ``m``.
    """
    complete = {}
    for name, value in (facts or {}).items():
        if name not in FACTS:
            raise unknown_name("fact for a reward", name, FACTS)
        if name in PER_SAMPLE and value is not None:
            value = _repeat(value, m)
        if _is_long(value) and len(value) != m:
            raise ConfigError(
                f"{name} has {len(value)} entries for {m} samples; give one each, or a single one"
            )
        if value is not None:
            complete[name] = value
    conditions = complete.get("conditions")
    if isinstance(conditions, (list, tuple)):
        distinct = {id(c): c for c in conditions}.values()  # samples of one group share theirs
        for name, part_of in (("prompts", text_of), ("meta", meta_of)):
            if name not in complete and any(part_of(c) for c in distinct):
                complete[name] = [part_of(c) for c in conditions]
    return complete


def text_of(condition: Any) -> str | None:
    """The prompt in a condition: a text, or the entry ``prompt`` of a mapping; None for anything else."""
    if isinstance(condition, Mapping):
        condition = condition.get("prompt")
    return condition if isinstance(condition, str) else None


def meta_of(condition: Any) -> dict[str, Any]:
    """What a condition says beside its prompt, as rewards may ask for it."""
    if not isinstance(condition, Mapping):
        return {}
    return {key: value for key, value in condition.items() if key != "prompt"}


def _is_long(value: Any) -> TypeGuard[Sized]:
    """Whether a fact holds one entry per sample, rather than one for all."""
    if isinstance(value, (str, bytes, Mapping)) or getattr(value, "ndim", 1) == 0:
        return False
    return hasattr(value, "__len__")


def _repeat(value: Any, m: int) -> Any:
    if _is_long(value):
        return value
    return value.expand(m) if isinstance(value, Tensor) else [value] * m


def take_facts(facts: Mapping[str, Any], index: slice | Sequence[int]) -> dict[str, Any]:
    """The facts of the samples ``index`` (a slice, or positions)."""
    return {name: take_samples(value, index) if _is_long(value) else value for name, value in facts.items()}


def take_samples(samples: Any, index: slice | Sequence[int]) -> Any:
    """Samples ``index`` of a tensor, array or list."""
    if isinstance(index, slice):
        return samples[index]
    if hasattr(samples, "shape"):
        return samples[list(index)]
    return [samples[i] for i in index]
