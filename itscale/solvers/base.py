"""What a solver is: a setting that, given a process and a grid, becomes a kernel that moves rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from torch import Tensor

from itscale.process import ContinuousProcess, Evaluation
from itscale.types import expand_over_event


@dataclass(frozen=True)
class Surroundings:
    """What is known where rows live, for moves and numbers that depend on it.

    Attributes:
        decode: states to samples.
        group: index of each row's group in the run, (rows,).
    """

    decode: Callable[[Tensor], Tensor]
    group: Tensor


Placed = TypeVar("Placed")


def placed(thing: Placed, around: Surroundings) -> Placed:
    """Return a kernel or an assessor for the rows at hand; one that needs to know has ``placed(around)``."""
    at = getattr(thing, "placed", None)
    return thing if at is None else at(around)


class Look(Protocol):
    """Evaluate the model inside a move: one NFE per row.

    Args:
        x: states; of all rows of the move, or of ``rows`` (indices into them).
        where: a level (int) or, between levels, a time (float).
    """

    def __call__(self, x: Tensor, where: int | float, rows: Tensor | None = None, /) -> Evaluation: ...


@dataclass(frozen=True)
class Move:
    """Where a kernel took the rows.

    Attributes:
        x: new states (rows, *event).
        z: the noise that was used, standard normal plus any shift; None where the move has none, or has
            several.
        std: scalar standard deviation of the transition, or (rows,); None when it is not Gaussian.
        memory: what the rows remember after the move, newest first; None is the denoised sample at its
            start, then what they remembered before.
        looks: evaluations inside the move, (rows,) int64; None is the kernel's ``extra_looks`` each.
        memo: numbers of the rows' paths, (rows, k), where the process remembers some; kernels leave it alone.
        log_ratio: (rows,) float64, what the move adds to the log-weights, such as log p - log q where it was
            drawn from another law than its own; None is nothing.
    """

    x: Tensor
    z: Tensor | None = None
    std: float | Tensor | None = None
    memory: tuple[Tensor, ...] | None = None
    looks: Tensor | None = None
    memo: Tensor | None = None
    log_ratio: Tensor | None = None

    @property
    def mean(self) -> Tensor | None:
        """The transition's mean, where the transition is Gaussian."""
        if self.std is None:
            return None
        if self.z is None:
            return self.x
        std = expand_over_event(self.std, self.x) if isinstance(self.std, Tensor) else self.std
        return self.x - std * self.z


class Kernel(Protocol):
    """One step of a solver on a fixed grid. Level k is the time ``times[k]``; a move goes from k to k + 1.

    A kernel that uses several standard normals per row also has ``shares(level)``; see ``shares_of``. One
    whose moves have a ``log_ratio`` says ``weighs = True``, one whose looks differ from row to row
    ``looks_vary = True``, and one that must know whose rows it moves, or what states decode to, has
    ``placed(around)``.

    Attributes:
        gaussian: the transition is N(mean, std^2 I) with a scalar std.
        history: how many tensors a row remembers; earlier denoised samples unless a move says otherwise.
        takes_levels: ``level`` may be a (rows,) tensor; otherwise rows are split by level.
    """

    @property
    def gaussian(self) -> bool: ...

    @property
    def history(self) -> int: ...

    @property
    def takes_levels(self) -> bool: ...

    def __call__(
        self, at: Evaluation, history: Sequence[Tensor], level: int | Tensor, look: Look, z: Tensor | None
    ) -> Move: ...

    def is_noisy(self, level: int) -> bool:
        """Whether the move from this level uses noise."""
        ...

    def extra_looks(self, level: int) -> int:
        """Evaluations inside the move, beside the look at its start: how many, or if they vary the most."""
        ...


def shares_of(kernel: Kernel, level: int) -> tuple[float, ...] | None:
    """How the standard normals of a move share a shift of its noise; None where there is one.

    The length is their number m, and ``z`` is then (rows, m, *event). Squares sum to 1, so that a shift d,
    added as ``share_j d`` to each, costs ``|d|^2 / 2`` as it does where there is one.
    """
    shares = getattr(kernel, "shares", None)
    return None if shares is None else shares(level)


def is_silent(kernel: Kernel) -> bool:
    """Whether moves say nothing but where they lead: no log ratio, and as many looks as were planned."""
    return not getattr(kernel, "weighs", False) and not getattr(kernel, "looks_vary", False)


def remembered(kernel: Kernel, at: Evaluation, past: Sequence[Tensor], move: Move) -> tuple[Tensor, ...]:
    """What rows remember after a move, newest first; the denoised sample is not made where nothing is."""
    if not kernel.history:
        return ()
    memory = (at.denoised, *past) if move.memory is None else move.memory
    return memory[: kernel.history]


class Solver(Protocol):
    """A setting. ``build`` checks it against the process before any network call.

    Order, evaluations and history may depend on its options. A solver of the ODE that adds noise of its own,
    and so separates copies, says ``brings_noise = True``. One that remembers several tensors per step says in
    ``lag`` how many steps they reach back.

    Attributes:
        is_stochastic: needs an SDE; otherwise it integrates the ODE.
        order: order of convergence (weak order for an SDE).
        evaluations: network evaluations per step.
        history: earlier evaluations it keeps per row.
        gaussian: whether its transition is Gaussian with known mean and standard deviation.
    """

    is_stochastic: ClassVar[bool]
    gaussian: ClassVar[bool]

    @property
    def order(self) -> int: ...

    @property
    def evaluations(self) -> int: ...

    @property
    def history(self) -> int: ...

    def build(self, process: ContinuousProcess, times: Tensor) -> Kernel: ...
