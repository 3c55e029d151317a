"""What is known about a reward before it runs, and what it says after it ran."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from itscale.errors import ConfigError, RewardShapeError, unknown_name

MODALITIES = ("any", "image", "video", "latent", "molecule", "sequence", "text", "vector")


@dataclass(frozen=True, kw_only=True)
class RewardSpec:
    """The static facts of a reward; readable without loading its weights.

    Attributes:
        name: what tables, errors and files call it.
        modality: one of ``MODALITIES``; ``"any"`` switches the checks on samples off.
        differentiable: ``Reward.raw`` carries a gradient to the samples.
        deterministic: equal samples and facts give equal scores, so that a cache is allowed.
        needs_prompt: a run without prompts is refused.
        needs_rgb: one-channel images are handed over as three equal channels (a view).
        range: lowest and highest possible score, ``None`` for an open end.
        typical: where most scores lie, in units of the score.
        scale_hint: a typical spread of the score, for choosing ``tilt``.
        batch_size: most samples per call; ``None`` leaves it to the caller.
        example_shape: shape of one sample that fits, where not every shape does, e.g. ``(1, 28, 28)``.
        extra: the pip extra that it needs.
        licence: licence of code and weights.
        version: changes when scores change; part of the cache key.
        floor: finite score written where the score is ``-inf``; ``None`` keeps ``-inf``.
        doc: one line.
    """

    name: str
    modality: str = "any"
    differentiable: bool = False
    deterministic: bool = True
    needs_prompt: bool = False
    needs_rgb: bool = False
    range: tuple[float | None, float | None] | None = None
    typical: tuple[float, float] | None = None
    scale_hint: float | None = None
    batch_size: int | None = None
    example_shape: tuple[int, ...] | None = None
    extra: str | None = None
    licence: str = ""
    version: str = "1"
    floor: float | None = None
    doc: str = ""

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise unknown_name("modality", self.modality, MODALITIES)
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(
                f"reward {self.name!r}: batch_size is {self.batch_size}; give at least 1, or None"
            )
        if self.floor is not None and not math.isfinite(self.floor):
            raise ConfigError(
                f"reward {self.name!r}: floor is {self.floor}; give a finite number, or None to keep -inf"
            )


@dataclass(frozen=True)
class Scores:
    """The scores of ``m`` samples, on the samples' device.

    Attributes:
        values: float32 ``[m]``, or float64 from a reward that returns it; larger is better; ``-inf`` (or
            the floor) where ``valid`` is False. Never NaN, never ``+inf``.
        valid: bool ``[m]``; False means that no score exists for the sample. ``-inf`` may be valid.
        parts: named components, each ``[m]``; a component may hold NaN where it is invalid.
        reasons: why a sample is invalid, ``""`` for valid ones; ``None`` when all are valid.
        calls: samples that were really evaluated; ``m - calls`` came out of a cache.
    """

    values: Float[Tensor, " m"]
    valid: Bool[Tensor, " m"]
    parts: dict[str, Tensor] = field(default_factory=dict)
    reasons: list[str] | None = None
    calls: int = 0

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def first_reason(self) -> str:
        """The first reason on record, or an empty string."""
        return next(filter(None, self.reasons or []), "")

    @classmethod
    def of(
        cls,
        values: Tensor,
        *,
        valid: Tensor | None = None,
        parts: dict[str, Tensor] | None = None,
        reasons: list[str] | None = None,
        calls: int | None = None,
        floor: float | None = None,
    ) -> Scores:
        """Build scores that keep the promises above from whatever numbers a function returned.

        NaN and ``+inf`` make a sample invalid; this is the one place where they are looked for, and
        the one host synchronisation of a scoring.
        """
        values = as_real(values)
        ok = values < math.inf  # no comparison with NaN holds
        if valid is not None:
            ok = ok & valid.to(values.device)
        if not bool(ok.all()):
            reasons = _complete(reasons, values, ok)
            values = torch.where(ok, values, -math.inf)
        if floor is not None:
            values = torch.where(values == -math.inf, floor, values)
        return cls(values, ok, dict(parts or {}), reasons, len(values) if calls is None else calls)


def as_real(values: Tensor) -> Tensor:
    """Detached float64 as it is, all else as float32."""
    values = values.detach()
    return values if values.dtype == torch.float64 else values.to(torch.float32)


def _complete(reasons: list[str] | None, values: Tensor, ok: Tensor) -> list[str]:
    """Give every invalid sample a reason."""
    reasons = list(reasons) if reasons is not None else [""] * len(values)
    for i in (~ok).nonzero().flatten().tolist():
        reasons[i] = reasons[i] or f"the score is {values[i].item()}"
    return reasons


def as_scores(out: object, m: int, name: str) -> Tensor:
    """Read what a reward returned as ``[m]`` numbers, keeping dtype, device and gradient.

    ``[m, 1]`` is squeezed and a scalar is accepted for ``m = 1``; nothing else is broadcast.

    Raises:
        RewardShapeError: for any other shape, naming the reward, what was expected and what came.
    """
    if out is None:
        raise RewardShapeError(
            f"reward {name!r} returned None for {m} samples; expected {m} numbers. Is a 'return' missing?"
        )
    try:
        tensor = _tensor(out)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RewardShapeError(
            f"reward {name!r} returned {type(out).__name__}, which is not {m} numbers ({error}); "
            "return a tensor, array or list of one number per sample"
        ) from error
    shape = tuple(tensor.shape)
    if shape == (m, 1) or (m == 1 and shape == ()):
        tensor = tensor.reshape(m)
    elif shape != (m,):
        raise RewardShapeError(
            f"reward {name!r} returned shape {list(shape)} for {m} samples; expected [{m}]. "
            "Reduce over the axes of one sample only, and return one number per sample"
        )
    if tensor.is_complex():
        raise RewardShapeError(f"reward {name!r} returned complex numbers; expected real ones")
    return tensor


def _tensor(out: object) -> Tensor:
    if isinstance(out, Tensor):
        return out
    if isinstance(out, (list, tuple)) and out and all(isinstance(item, Tensor) for item in out):
        return torch.stack([item.reshape(()) if item.numel() == 1 else item for item in out])
    return torch.as_tensor(out)
