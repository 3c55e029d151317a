"""Guidance by the likelihood of a state: PiGDM, TMPD and LGD-MC, each a choice of what surrounds its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.guides.observation import FEW, MeasuredAround, MeasuredNearby
from itscale.methods.base import check_count, check_positive
from itscale.methods.guided import Guided


@dataclass(frozen=True, kw_only=True)
class Measuring(Guided):
    """Base of guided methods that take data to vary by ``s^2 c^2 / (s^2 + c^2)`` around the denoised sample.

    Attributes:
        prior_std: c, standard deviation of the data in units of states.
    """

    prior_std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("prior_std", self.prior_std)

    @property
    def measures(self) -> str:
        return "any"

    def passes(self, size: int) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class PiGDM(Measuring):
    """Pseudo-inverse guidance: the likelihood of the state if the data vary by ``r^2 I`` around D.

    Exact in small steps for data N(m, c^2 I) with c = ``prior_std``, else an approximation; corrected it is
    twisted SMC with a good twist. An operator that is not linear is taken as its Jacobian at D, in ten
    conjugate gradients through the operator.

    Cost: N T NFE, all but the last also backwards, and N T reward calls.

    Attributes:
        prior_std: c, in units of states (images: [-1, 1]).

    Reference:
        Song, Vahdat, Mardani and Kautz (2023), "Pseudoinverse-Guided Diffusion Models for Inverse Problems";
        corrected: Wu et al. (2023), arXiv:2306.17775.
    """

    def twist(self, engine: Engine) -> MeasuredNearby:
        assert engine.observed is not None
        return MeasuredNearby(engine.observed, "isotropic", self.prior_std, engine.tilt)


@dataclass(frozen=True, kw_only=True)
class TMPD(Guided):
    """Tweedie moment projection: the likelihood of the state with the data's own covariance around D.

    Exact in small steps for any Gaussian data. ``covariance="diagonal"`` sums rows of the covariance.

    Cost: N T NFE, all but the last also backwards once per measurement (diagonal: twice), N T reward calls.

    Attributes:
        covariance: ``"moment"``, ``"diagonal"``, or ``"auto"``: the first for up to 16 measurements.

    Reference:
        Boys et al. (2023), "Tweedie Moment Projected Diffusions for Inverse Problems", arXiv:2310.06721.
    """

    covariance: Literal["auto", "moment", "diagonal"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.covariance not in ("auto", "moment", "diagonal"):
            raise ConfigError(f"covariance must be auto, moment or diagonal, got {self.covariance!r}")

    @property
    def measures(self) -> str:
        return "linear"

    def passes(self, size: int) -> int:
        return size if self._chosen(size) == "moment" else 2

    def twist(self, engine: Engine) -> MeasuredNearby:
        assert engine.observed is not None
        size = engine.observed.likelihood.operator.size
        return MeasuredNearby(engine.observed, self._chosen(size), tilt=engine.tilt)

    def _chosen(self, size: int) -> str:
        if self.covariance != "auto":
            return self.covariance
        return "moment" if size <= FEW else "diagonal"


@dataclass(frozen=True, kw_only=True)
class LGDMC(Measuring):
    """Loss-guided diffusion: the likelihood averaged over ``samples`` normals around D, in the logarithm.

    Any likelihood and any differentiable operator. Costs ``samples`` operator calls a look.

    Cost: N T NFE, all but the last also backwards, and N T reward calls.

    Attributes:
        samples: normals.
        prior_std: c in their variance ``s^2 c^2 / (s^2 + c^2)``.

    Reference:
        Song et al. (2023), "Loss-Guided Diffusion Models for Plug-and-Play Controllable Generation".
    """

    samples: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("samples", self.samples)

    def twist(self, engine: Engine) -> MeasuredAround:
        assert engine.observed is not None
        return MeasuredAround(engine.observed, self.samples, self.prior_std, engine.tilt)
