"""What the engine asks of a model, and the binding of a condition and a guidance weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.interpolants import Interpolant, coefficients
from itscale.models.algebra import Composable
from itscale.models.conditions import Conditions, Encoding, joined, repeated, rows_of
from itscale.models.guidance import Guidance, GuidanceLike, check_weight, weight_of
from itscale.types import PerRow, State, Time, sent


class Model(Protocol):
    """A pretrained network with the path it was trained on.

    Attributes:
        interpolant: the native path.
        predicts: what ``predict`` returns.
        event_shape: shape of one state.
        modality: what ``decode`` returns, ``"image"``, ``"vector"`` and so on.
        rows_per_look: network rows per particle and look: 1, or 2 under guidance.
    """

    @property
    def interpolant(self) -> Interpolant: ...
    @property
    def predicts(self) -> Literal["velocity", "noise", "denoised", "v"]: ...
    @property
    def event_shape(self) -> tuple[int, ...]: ...
    @property
    def modality(self) -> str: ...
    @property
    def rows_per_look(self) -> int: ...

    def encode(self, conditions: Sequence[Any]) -> Encoding | None:
        """Turn one condition per group (``None``: unconditional) into ``(g, ...)`` or ``Conditions``.

        Returns ``None`` if the network takes no condition.

        Raises:
            ConfigError: for a condition that the network cannot take.
        """
        ...

    def predict(self, x: State, t: Time, condition: Any) -> State:
        """Return the raw network output, shaped and typed as ``x``.

        Args:
            x: states ``(rows, *event)``.
            t: ``()`` or ``(rows,)``, float64; 0 is noise, 1 is data.
            condition: the encoding, gathered to the rows, or ``None``.
        """
        ...

    def decode(self, x: State) -> Tensor:
        """Turn states into what rewards see; images are ``[n, c, h, w]`` clamped to [0, 1]."""
        ...

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Model:
        """Bind a condition and a guidance weight."""
        ...

    def to(self, device: torch.device | str) -> Model:
        """Move the network, in place as torch does, and return the model."""
        ...


@dataclass(frozen=True, eq=False)
class Given(Composable):
    """A model under a condition and classifier-free guidance.

    The prediction is ``raw_u + guidance (raw_c - raw_u)``: 0 is unconditional, 1 conditional, above 1 guided.
    Both halves go through the network in one call of twice the rows; weights 0 and 1 need no second half.
    It is the same guidance for every ``predicts``: velocity, noise and denoised sample are affine in each
    other. A ``Guidance`` says more than a weight; rows at noise levels where it gives none are asked once.

    Args:
        model: the model without guidance.
        condition: the condition of every group that brings none of its own; ``None``: unconditional.
        guidance: weight, finite and >= 0, or a ``Guidance``.

    Reference:
        Ho and Salimans (2022), "Classifier-Free Diffusion Guidance", arXiv:2207.12598. Their ``w`` is
        ``guidance - 1``.
    """

    model: Model
    condition: Any = None
    guidance: GuidanceLike = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.guidance, Guidance):
            check_weight(self.guidance)
        elif self.tokens is not None:
            raise ConfigError(
                f"guidance {self.guidance!r} is for noise that is taken away; a masked model takes a number"
            )
        if self.condition is not None:
            self.model.encode([self.condition])
        if self.weight != 1 and self.model.encode([None]) is None:
            raise ConfigError(
                f"guidance {self.guidance!r} needs a conditional model, and this one takes no condition; "
                "use guidance=1.0"
            )

    @property
    def weight(self) -> float:
        """The guidance weight."""
        return weight_of(self.guidance)

    @property
    def interpolant(self) -> Interpolant:
        return self.model.interpolant

    @property
    def predicts(self) -> Literal["velocity", "noise", "denoised", "v"]:
        return self.model.predicts

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.model.event_shape

    @property
    def tokens(self) -> Any:
        """The vocabulary of a masked model; None for others."""
        return getattr(self.model, "tokens", None)

    @property
    def takes_time(self) -> bool:
        return getattr(self.model, "takes_time", True)

    @property
    def modality(self) -> str:
        return self.model.modality

    @property
    def rows_per_look(self) -> int:
        return self.model.rows_per_look * (1 if self.weight in (0, 1) else 2)

    @property
    def is_uneven(self) -> bool:
        """Whether looks cost more rows at some noise levels than at others."""
        limited = isinstance(self.guidance, Guidance) and self.guidance.interval is not None
        return limited and self.rows_per_look > self.model.rows_per_look

    def rows_at(self, t: Time) -> int:
        """Network rows of a look at a time ()."""
        return self.rows_per_look if bool(self._is_given(t)) else self.model.rows_per_look

    def _is_given(self, t: Time) -> Tensor:
        """Whether guidance is given at times () or (rows,)."""
        if not isinstance(self.guidance, Guidance):
            return torch.ones_like(t, dtype=torch.bool)
        return self.guidance.is_given(self.interpolant.kappa(t))

    def encode(self, conditions: Sequence[Any]) -> Encoding | None:
        """Encode the groups' conditions; a group with ``None`` takes the bound one.

        Raises:
            ConfigError: if a group brings a condition although one is bound, or the model refuses it.
        """
        if self.condition is not None:
            for condition in conditions:
                if condition is not None:
                    raise ConfigError(
                        f"condition {condition!r} was given to a model already bound to {self.condition!r}; "
                        "bind none (model.given(None, guidance)) or pass none"
                    )
        filled = [self.condition if condition is None else condition for condition in conditions]
        return self.model.encode(filled)

    def predict(self, x: State, t: Time, condition: Encoding | None) -> State:
        """Return the guided raw output; without ``condition`` all rows take the bound one."""
        rows = len(x)
        if condition is None:
            condition = self._encoded(self.condition, rows, x.device)
        if condition is None or self.weight == 1:
            return self.model.predict(x, t, condition)
        given = self._is_given(t) if self.is_uneven else None
        if given is not None and not bool(given.any()):
            return self.model.predict(x, t, condition)
        nothing = condition.opposite if isinstance(condition, Conditions) else None
        if nothing is None:
            nothing = self._encoded(None, rows, x.device)
        if nothing is None or self.weight == 0:
            return self.model.predict(x, t, nothing)
        if given is not None and not bool(given.all()):
            return self._predict_some(x, t, condition, nothing, given.nonzero()[:, 0])
        if isinstance(self.guidance, Guidance) and self.guidance.split:
            without = self.model.predict(x, t, nothing)
            return self._combined(without, self.model.predict(x, t, condition), x, t)
        both = joined([nothing, condition])
        raw = self.model.predict(torch.cat([x, x]), t if t.ndim == 0 else torch.cat([t, t]), both)
        return self._combined(raw[:rows], raw[rows:], x, t)

    def _predict_some(
        self, x: State, t: Time, condition: Encoding, nothing: Encoding, given: Tensor
    ) -> State:
        """Guide the rows ``given``; all go through the network in one call."""
        there, count = sent(given, x.device), len(given)
        both = joined([rows_of(nothing, given), condition])
        raw = self.model.predict(torch.cat([x[there], x]), torch.cat([t[given], t]), both)
        without, conditional = raw[:count], raw[count:]
        conditional[there] = self._combined(without, conditional[there], x[there], t[given])
        return conditional

    def _combined(self, without: State, conditional: State, x: State, t: Time) -> State:
        if isinstance(self.guidance, Guidance):
            c = coefficients(self.interpolant, t)
            return self.guidance.combined(without, conditional, x, self.predicts, c)
        return without + self.guidance * (conditional - without)

    def decode(self, x: State) -> Tensor:
        return self.model.decode(x)

    def given(self, condition: Any, guidance: GuidanceLike = 1.0) -> Given:
        """Bind anew; a condition of ``None`` keeps the one that is bound."""
        return Given(self.model, self.condition if condition is None else condition, guidance)

    def log_prob(self, x: State, condition: Any = None, **options: Any) -> PerRow:
        """Log-density of states by the guided ODE; options, cost and error as in ``models.log_prob``."""
        from itscale.models.likelihood import log_prob  # which is built on this file

        return log_prob(self, x, condition, **options).values

    def to(self, device: torch.device | str) -> Given:
        return replace(self, model=self.model.to(device))

    def _encoded(self, condition: Any, rows: int, device: torch.device) -> Encoding | None:
        encoding = self.model.encode([condition])
        return None if encoding is None else repeated(encoding.to(device), rows)
