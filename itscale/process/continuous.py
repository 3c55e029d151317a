"""ODE and SDE views of one model, on the model's own path or on another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from itscale import interpolants
from itscale.interpolants import Interpolant, get_interpolant
from itscale.models.base import Model
from itscale.models.conditions import Encoding
from itscale.models.wrapper import rows_at, trait
from itscale.process.diffusion import Coefficient, Diffusion, get_diffusion
from itscale.process.evaluation import Evaluation
from itscale.process.prior import StudentT
from itscale.types import State, Time, expand_over_event

Path: TypeAlias = str | Interpolant | None


@dataclass(frozen=True, kw_only=True)
class ODE:
    """The probability-flow ODE ``dX = u dt``, on the model's path or converted to ``interpolant``.

    Attributes:
        interpolant: path to run on; None is the model's own.
        prior: what to start from; None is normal noise, ``StudentT(D)`` is that of PFGM++ models.
    """

    interpolant: Path = None
    prior: StudentT | None = None

    @property
    def coefficient(self) -> Diffusion:
        return Coefficient("zero")


@dataclass(frozen=True, kw_only=True)
class SDE:
    """``dX = (u + g^2/2 score) dt + g dW``: the marginals of the ODE for every diffusion coefficient g.

    Attributes:
        interpolant: path to run on; None is the model's own.
        diffusion: ``"natural"`` (= ``"optimal"``), ``"zero"``, ``"constant"``, ``"sigma"``, ``"linear"``,
            ``"t-squared"``, ``"sine"``, ``"sin-squared"``, ``"decreasing"``, a number, a function of t, or a
            coefficient such as ``Epsilon("sigma", 0.5)``. ``"renoise"`` is for distilled models alone.

    Reference:
        Albergo, Boffi and Vanden-Eijnden (2023), "Stochastic Interpolants", arXiv:2303.08797, section 2.
    """

    interpolant: Path = None
    diffusion: str | float | Callable[[float], float] | Diffusion = "natural"

    @property
    def coefficient(self) -> Diffusion:
        return get_diffusion(self.diffusion)


@dataclass(frozen=True)
class ContinuousProcess:
    """A model set in motion: where to start, what to evaluate, drift and diffusion.

    Running a model on another path needs no retraining: at path time t the state is a rescaled state of the
    model's path at the time of equal noise-to-signal ratio, and the posterior means of data and noise are
    the same (``interpolants.match``).
    """

    model: Model
    interpolant: Interpolant
    diffusion: Diffusion
    prior: StudentT | None = None
    starts_at: float | None = None  # a run that starts in the middle, from given states
    is_converted: bool = field(init=False)
    has_rates: ClassVar[bool] = False  # weights that correct the drift, as compositions have

    @property
    def rate_share(self) -> float:
        """The share of a step for which those weights grow at the rate of its start."""
        return 1.0

    @property
    def is_exact(self) -> bool:
        """Whether those weights are ratios of transition densities instead of an integral."""
        return False

    @property
    def is_fitted(self) -> bool:
        """Whether the drift is fitted to the particles of a group, look by look."""
        return False

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_converted", self.interpolant != self.model.interpolant)

    @classmethod
    def of(cls, model: Model, view: ODE | SDE) -> ContinuousProcess:
        path = model.interpolant if view.interpolant is None else get_interpolant(view.interpolant)
        return cls(model, path, view.coefficient, view.prior if isinstance(view, ODE) else None)

    @property
    def log_start(self) -> float:
        """Log of the normaliser of the law that a run starts from."""
        return 0.0

    def begin(self, unit: State, t: float) -> State:
        """Scale unit noise to the law at the start of a run."""
        return unit * self.start_std(t)

    def start_std(self, t: float) -> float:
        """Standard deviation of what a run starts from; that of the noise unless the model says otherwise."""
        stated = trait(self.model, "start_std") if self.starts_at is None else None
        return float(self.interpolant.sigma(t)) if stated is None else float(stated)

    @property
    def t_start(self) -> float:
        """The noisiest time that both the path and the model know, or where a run was told to start."""
        if self.starts_at is not None:
            return self.starts_at
        if not self.is_converted:
            return self.interpolant.t_min
        noisiest = self.model.interpolant.kappa(self.model.interpolant.t_min)
        if float(self.interpolant.kappa(self.interpolant.t_min)) <= float(noisiest):
            return self.interpolant.t_min
        return max(self.interpolant.t_min, float(self.interpolant.t_of_kappa(noisiest)))

    def evaluate(self, x: State, t: Time, condition: Encoding | None = None) -> Evaluation:
        """Call the network once: one NFE per row."""
        if not self.is_converted:
            raw = self.model.predict(x, t, condition)
            return Evaluation(x, t, self.model.predicts, raw, self.interpolant)
        source = self.model.interpolant
        source_t, scale = interpolants.match(source, self.interpolant, t)
        source_x = x / expand_over_event(scale, x)
        raw = self.model.predict(source_x, source_t, condition)
        there = Evaluation(source_x, source_t, self.model.predicts, raw, source)
        here = interpolants.coefficients(self.interpolant, t)
        if there.kind == "noise" or there.kind == "denoised":
            return Evaluation(x, t, there.kind, raw, self.interpolant)
        raw = interpolants.raw_from(there.kind, there.denoised, there.noise, here)
        return Evaluation(x, t, there.kind, raw, self.interpolant)

    def rows_at(self, t: float) -> int:
        """Network rows of a look at a time of the path."""
        time = torch.tensor(t, dtype=torch.float64)
        if self.is_converted:
            time, _ = interpolants.match(self.model.interpolant, self.interpolant, time)
        return rows_at(self.model, time)

    @property
    def remembers(self) -> bool:
        """Whether rows remember numbers of their path, their memo."""
        return False

    @property
    def can_jump(self) -> bool:
        """Whether states may come by another way than a move of the run."""
        return True

    @property
    def is_law(self) -> bool:
        """Whether samples follow a known law, which a method can tilt."""
        return True

    @property
    def is_adjusted(self) -> bool:
        """Whether moves end elsewhere than the solver takes them."""
        return False

    def evaluation(self, x: State, t: Time, raw: Tensor, memo: Tensor | None = None) -> Evaluation:
        """Read outputs of the network, as ``evaluate`` returned them."""
        return Evaluation(x, t, self.model.predicts, raw, self.interpolant)

    def g(self, t: float) -> float:
        """The diffusion coefficient at time t."""
        return self.diffusion(t, self.interpolant)

    def drift(self, at: Evaluation) -> State:
        """``u + g^2/2 score`` at an evaluation whose time is ``()``."""
        g = self.g(float(at.t))
        return at.velocity if g == 0 else torch.add(at.velocity, at.score, alpha=g**2 / 2)
