"""What a small masked network really samples, by enumeration of all masked states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.enumerable import MOST_STATES, Enumerable

BATCH = 16_384


@dataclass(frozen=True, eq=False)
class EventLaw:
    """The law of sequences that a masked model draws one position at a time, positions in random order.

    A network's conditionals need not be those of any joint law: what it samples depends on the order. Here
    the random order is summed over, so that tilted laws and soft values of a run with
    ``solver="first-hitting"`` and no fewer steps than positions are known to rounding.

    Costs ``(V + 1)^L - V^L`` rows through the network, once.

    Args:
        model: a masked model without time and condition.

    Raises:
        ConfigError: for a model with more than 20 million masked states, or one that takes a time.

    Example:
        >>> from itscale.models import Enumerable, EventLaw
        >>> joint = Enumerable(torch.rand(3, 3, 3).log())
        >>> bool(torch.allclose(EventLaw(joint).law.law, joint.law))
        True
    """

    model: Any

    def __post_init__(self) -> None:
        size, length = self.model.tokens.size, self.model.event_shape[0]
        if (size + 1) ** length > MOST_STATES:
            raise ConfigError(
                f"{length} positions of {size} tokens make {(size + 1) ** length} masked states, and at most "
                f"{MOST_STATES} are enumerated; use a shorter sequence"
            )
        if self.model.takes_time or self.model.tokens.mask != size:
            raise ConfigError("an EventLaw needs a model without time, whose mask token is its vocabulary")

    @cached_property
    def law(self) -> Enumerable:
        """The law of complete sequences, as a model of its own with exact tilts."""
        reached = torch.zeros(len(self._hidden), dtype=torch.float64)
        reached[-1] = 1.0
        for at, after, log_share in self._levels:
            reached.index_add_(0, after.flatten(), (reached[at][:, None, None] * log_share.exp()).flatten())
        size, length = self.model.tokens.size, self.model.event_shape[0]
        return Enumerable(reached[self._complete].log().reshape((size,) * length))

    def soft_values(
        self, rewards: Float64[Tensor, " sequences"], tilt: float = 1.0
    ) -> Float64[Tensor, " states"]:
        """``log E[exp(tilt r) | x] / tilt`` of every masked state, by its number; the mean at tilt 0."""
        rewards = torch.as_tensor(rewards, dtype=torch.float64)
        value = torch.zeros(len(self._hidden), dtype=torch.float64)
        value[self._complete] = rewards if tilt == 0 else tilt * rewards
        for at, after, log_share in reversed(self._levels):
            ahead = value[after].flatten(1)
            share = log_share.flatten(1)
            value[at] = (share.exp() * ahead).sum(1) if tilt == 0 else torch.logsumexp(share + ahead, 1)
        return value if tilt == 0 else value / tilt

    @cached_property
    def _place(self) -> Tensor:
        length = self.model.event_shape[0]
        return (self.model.tokens.size + 1) ** torch.arange(length - 1, -1, -1)

    @cached_property
    def _states(self) -> Tensor:
        v = torch.arange(self.model.tokens.size + 1)
        length = self.model.event_shape[0]
        return torch.cartesian_prod(*[v] * length).reshape(-1, length)

    @cached_property
    def _hidden(self) -> Tensor:
        return (self._states == self.model.tokens.mask).sum(dim=1)

    @cached_property
    def _complete(self) -> Tensor:
        return (self._hidden == 0).nonzero().flatten()

    @cached_property
    def _levels(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Batches of states with equally many hidden positions, from all to one.

        Each holds their numbers, the numbers of what an event makes of them (states, hidden, V), and the
        logarithm of its probability.
        """
        size, levels, model = self.model.tokens.size, [], self.model.to("cpu")
        v = torch.arange(size)
        for hidden in range(self.model.event_shape[0], 0, -1):
            for at in (self._hidden == hidden).nonzero().flatten().split(BATCH):
                x = self._states[at]
                with torch.no_grad():
                    logits = model.predict(x, torch.tensor(0.0), None).double()
                where = (x == self.model.tokens.mask).nonzero()[:, 1].reshape(len(at), hidden)
                logits = logits.gather(1, where[..., None].expand(-1, -1, size))
                log_share = logits.log_softmax(dim=-1) - math.log(hidden)
                after = at[:, None, None] - (size - v) * self._place[where][..., None]
                levels.append((at, after, log_share))
        return levels
