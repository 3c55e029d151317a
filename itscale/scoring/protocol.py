"""``Reward``: what the rest of the library sees of a reward, composed or not."""

from __future__ import annotations

import copyreg
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError, RewardError
from itscale.scoring.composable import Composable
from itscale.scoring.facts import complete_facts, take_facts, take_samples
from itscale.scoring.images import as_image_batch, check_images
from itscale.scoring.leaf import FunctionLeaf, Leaf
from itscale.scoring.rules import Rule, combined_spec
from itscale.scoring.spec import RewardSpec, Scores


class Reward(Composable):
    """A reward with its facts: one function, or a rule over other rewards.

    Made by ``as_reward``, the decorator ``reward`` and by arithmetic on rewards. Larger is better.
    Calling it with positional arguments calls the plain function underneath.

    Example:
        >>> import torch
        >>> red = Reward.of(lambda images: images[:, 0].mean((1, 2)), name="red", modality="image")
        >>> (2 * red).score(torch.full((2, 3, 4, 4), 0.25)).values
        tensor([0.5000, 0.5000])
    """

    def __init__(
        self, spec: RewardSpec, *, leaf: Leaf | None = None, rule: Rule | None = None, operands: tuple = ()
    ) -> None:
        self.spec = spec
        self.leaf = leaf
        self.rule = rule
        self.operands: tuple[Reward, ...] = operands

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        label: str | None = None,
        options: Mapping[str, Any] | None = None,
        spec: RewardSpec | None = None,
        **facts: Any,
    ) -> Reward:
        """Wrap one callable; ``facts`` are the fields of ``RewardSpec``, ``options`` bound arguments."""
        if spec is None:
            facts.setdefault("name", getattr(function, "__name__", type(function).__name__))
            facts.setdefault("doc", (function.__doc__ or "").strip().split("\n")[0])
            spec = RewardSpec(**facts)
        leaf = FunctionLeaf(function, spec, label=label, options=options)
        made = cls(leaf.spec, leaf=leaf)
        if hasattr(function, "__qualname__") and not options:
            functools.update_wrapper(made, function, updated=())
        return made

    @classmethod
    def combine(cls, rule: Rule, *operands: Reward) -> Reward:
        """A rule over the values of other rewards, sample by sample."""
        return cls(combined_spec(rule, [(r.name, r.spec) for r in operands]), rule=rule, operands=operands)

    @property
    def name(self) -> str:
        """Readable: the label of a function with its arguments, or the formula of a composition."""
        if self.leaf is not None:
            return self.leaf.label
        return self.spec.name

    @property
    def gradient_ready(self) -> bool:
        """Whether ``raw`` carries a gradient to the samples."""
        return self.spec.differentiable

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The distinct functions that it is made of, in order of appearance."""
        if self.leaf is not None:
            return (self.leaf,)
        return tuple(dict.fromkeys(leaf for operand in self.operands for leaf in operand.leaves))

    @property
    def wanted(self) -> tuple[str, ...]:
        """The facts that its scores may depend on."""
        return tuple(dict.fromkeys(name for leaf in self.leaves for name in leaf.wanted))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.leaf, FunctionLeaf):
            return self.leaf.function(*args, **{**self.leaf.options, **kwargs})
        (samples,) = args
        return self.score(samples, kwargs).values

    def score(
        self, samples: Any, facts: Mapping[str, Any] | None = None, *, batch_size: int | None = None
    ) -> Scores:
        """Score ``m`` samples; every distinct function below runs once per sample.

        Args:
            samples: tensor ``[m, ...]`` or list of ``m``, by modality. Images: floating point
                ``[m, c, h, w]`` in [0, 1]; other forms of images are converted.
            facts: see ``itscale.scoring.facts``; a single prompt, condition or meta serves all samples.
            batch_size: most samples per call; the reward's own limit by default.

        Returns:
            Scores without gradient, on the samples' device. Images holding NaN are invalid.

        Raises:
            RewardError: images out of range, a reward that fails for every sample or lacks a package.
            RewardShapeError: a function that does not return one number per sample.
            ConfigError: facts that are unknown, missing, or of another length.
        """
        samples, finite = self._prepare(samples)
        facts = complete_facts(facts, len(samples))
        if finite is None:
            return self.score_prepared(samples, facts, batch_size)
        return self._score_finite(samples, facts, batch_size, finite)

    def raw(self, samples: Any, facts: Mapping[str, Any] | None = None) -> Tensor:
        """Score without detaching: ``[m]``, differentiable in the samples, in one call.

        Nothing is caught or repaired: a NaN stays one.

        Raises:
            ConfigError: if the reward is not differentiable.
            RewardError: if it claims to be and its result does not depend on the samples.
        """
        if not self.gradient_ready:
            blind = [leaf.label for leaf in self.leaves if not leaf.spec.differentiable]
            raise ConfigError(
                f"reward {self.name!r} has no gradient (because of {', '.join(blind)}); "
                "choose a method that needs none, or declare differentiable=True if it has one"
            )
        samples, _ = self._prepare(samples)
        facts = complete_facts(facts, len(samples))
        still = samples.detach() if isinstance(samples, Tensor) else samples
        values = self._value(
            {id(f): f.raw(samples if f.spec.differentiable else still, facts) for f in self.leaves}
        )
        tracked = torch.is_grad_enabled() and isinstance(samples, Tensor) and samples.requires_grad
        if tracked and not values.requires_grad:
            raise RewardError(
                f"reward {self.name!r} claims a gradient but its result does not depend on the samples; "
                "look for detach, numpy, rounding or torch.no_grad inside it"
            )
        return values

    def score_prepared(self, samples: Any, facts: Mapping[str, Any], batch_size: int | None) -> Scores:
        """``score`` for samples that were checked and facts that are complete."""
        if self.leaf is not None:
            return self.leaf.score(samples, facts, batch_size)
        leaves = self.leaves
        scored = [leaf.score(samples, facts, batch_size) for leaf in leaves]
        values = self._value({id(leaf): s.values for leaf, s in zip(leaves, scored, strict=True)})
        valid = torch.stack([s.valid for s in scored]).all(dim=0)  # over leaves
        parts: dict[str, Tensor] = {}
        for leaf, s in zip(leaves, scored, strict=True):
            label = _free(leaf.label, parts)
            parts[label] = s.values
            parts.update({f"{label}.{name}": part for name, part in s.parts.items()})
        calls = max(s.calls for s in scored)
        return Scores.of(values, valid=valid, parts=parts, reasons=_merge(leaves, scored), calls=calls)

    def _value(self, values: Mapping[int, Tensor]) -> Tensor:
        if self.leaf is not None:
            return values[id(self.leaf)]
        assert self.rule is not None
        return self.rule(*[operand._value(values) for operand in self.operands])

    def _prepare(self, samples: Any) -> tuple[Any, Tensor | None]:
        modality = self.spec.modality
        if modality == "image":
            if not (isinstance(samples, Tensor) and samples.is_floating_point()):
                samples = as_image_batch(samples)
            return samples, check_images(samples, self.name)
        if isinstance(samples, str):
            raise RewardError(f"reward {self.name!r} got a single string; give a list of them")
        if modality in ("vector", "latent", "video") and not isinstance(samples, Tensor):
            samples = torch.as_tensor(samples)
        return samples, None

    def _score_finite(
        self, samples: Tensor, facts: Mapping[str, Any], batch_size: int | None, finite: Tensor
    ) -> Scores:
        m, index = len(samples), finite.nonzero().flatten()
        keep = index.tolist()
        some = None
        if keep:
            chosen = take_facts(facts, keep)
            some = self.score_prepared(take_samples(samples, keep), chosen, batch_size)
        return _scatter(some, index.to(samples.device), m, samples.device)

    def __repr__(self) -> str:
        return f"<reward {self.name}>"

    def __reduce__(self) -> Any:
        """By name when decorated at the top of a module, so that processes share the function."""
        module, name = getattr(self, "__module__", None), getattr(self, "__qualname__", None)
        if name and module != "__main__" and getattr(sys.modules.get(str(module)), name, None) is self:
            return name
        return copyreg.__newobj__, (type(self),), vars(self)  # type: ignore[attr-defined]


def _free(label: str, taken: Mapping[str, Any]) -> str:
    if label not in taken:
        return label
    return next(f"{label} #{k}" for k in range(2, len(taken) + 3) if f"{label} #{k}" not in taken)


def _merge(leaves: tuple[Leaf, ...], scored: list[Scores]) -> list[str] | None:
    if all(s.reasons is None for s in scored):
        return None
    merged = [""] * len(scored[0])
    for leaf, s in zip(leaves, scored, strict=True):
        for i, reason in enumerate(s.reasons or []):
            merged[i] = merged[i] or (reason and f"{leaf.label}: {reason}")
    return merged


def _scatter(some: Scores | None, index: Tensor, m: int, device: torch.device) -> Scores:
    """Scores of ``m`` images, those outside ``index`` invalid because they are not finite."""
    reasons = ["the image holds NaN or infinity"] * m
    dtype = torch.float32 if some is None else some.values.dtype
    values = torch.full((m,), float("nan"), dtype=dtype, device=device)
    valid = torch.zeros(m, dtype=torch.bool, device=device)
    if some is None:
        return Scores.of(values, valid=valid, reasons=reasons, calls=0)
    values[index], valid[index] = some.values, some.valid
    for position, i in enumerate(index.tolist()):
        reasons[i] = some.reasons[position] if some.reasons is not None else ""
    parts = {}
    for name, part in some.parts.items():
        parts[name] = torch.full((m,), float("nan"), dtype=part.dtype, device=device)
        parts[name][index] = part
    return Scores.of(values, valid=valid, parts=parts, reasons=reasons, calls=some.calls)
