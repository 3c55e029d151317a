"""A run that starts in the middle: from noisy versions of given states."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from itscale.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Start:
    """Start at time ``t`` from ``alpha(t) states + sigma(t) noise``: image to image, in the usual words.

    The smaller ``t``, the freer the run: 0 forgets the states, 1 returns them.

    Attributes:
        states: what to start from, (groups, *event), or (*event) for all groups; of an image, what
            ``model.encode_image`` returns.
        t: time in (0, 1) on the path that the run is on.

    Reference:
        Meng et al. (2022), "SDEdit: Guided Image Synthesis and Editing with Stochastic Differential
        Equations", arXiv:2108.01073.
    """

    states: Tensor
    t: float

    def __post_init__(self) -> None:
        if not isinstance(self.states, Tensor) or not self.states.is_floating_point():
            raise ConfigError(
                f"start_at needs states as a floating-point tensor, got {type(self.states).__name__}"
            )
        if isinstance(self.t, bool) or not isinstance(self.t, int | float) or not 0 < self.t < 1:
            raise ConfigError(f"start_at needs a time t in (0, 1), 0 noise and 1 data, got {self.t!r}")

    def of_groups(self, groups: int, event: tuple[int, ...]) -> Tensor:
        """The states of all groups, (groups, *event).

        Raises:
            ConfigError: if they are shaped otherwise.
        """
        shape = tuple(self.states.shape)
        if shape == event:
            return self.states.expand(groups, *event)
        if shape in ((groups, *event), (1, *event)):
            return self.states.expand(groups, *event)
        raise ConfigError(
            f"start_at has states {shape}; give (groups, *event) = {(groups, *event)}, or {event} for all "
            "groups"
        )

    def __repr__(self) -> str:
        digest = float(self.states.double().square().sum())
        return f"Start(states {tuple(self.states.shape)} of square sum {digest:.12g}, t={self.t!r})"
