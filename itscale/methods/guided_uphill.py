"""Guidance up an energy, whatever its scale: DPS, and training-free guidance with its presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from itscale.engine import Engine
from itscale.errors import ConfigError
from itscale.guides.energy import Climb, along_levels
from itscale.guides.observation import MeasuredNearby
from itscale.methods.base import check_count, check_positive
from itscale.methods.guided import Guided
from itscale.methods.guided_nearby import Measuring

Schedule = Literal["constant", "increase", "decrease"]


@dataclass(frozen=True, kw_only=True)
class DPS(Measuring):
    """Diffusion posterior sampling: moves minus ``2 zeta grad |y - A D(x)|``, whatever the noise is.

    Where it ends depends on zeta and on the number of steps; corrected, only how well it does.

    Cost: N T NFE, all but the last also backwards, and N T reward calls.

    Attributes:
        zeta: step size, .3 to 1.
        form: ``"step"`` subtracts the gradient from the move, as published; ``"score"`` takes ``zeta`` times
            it for the gradient of a log-likelihood, as deepinv does, which is stronger at high noise.
        prior_std: of the twist that weights go by, as in ``PiGDM``.

    Reference:
        Chung et al. (2023), "Diffusion Posterior Sampling for General Noisy Inverse Problems",
        arXiv:2209.14687, Algorithm 1, with ``zeta_i = zeta / |y - A D|`` on the squared residual.
    """

    zeta: float = 1.0
    form: Literal["step", "score"] = "step"
    is_scaled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("zeta", self.zeta)
        if self.form not in ("step", "score"):
            raise ConfigError(f"form must be step or score, got {self.form!r}")

    def twist(self, engine: Engine) -> Climb:
        moves = engine.steps - 1
        return Climb(
            engine.observed,
            rho=((2 if self.form == "step" else 1) * self.zeta,) * moves,
            mu=(0.0,) * moves,
            width=(0.0,) * moves,
            by_ratio=False,
            as_score=self.form == "score",
            value=_weighing(engine, self.prior_std),
        )


@dataclass(frozen=True, kw_only=True)
class TFG(Guided):
    """Training-free guidance: up an energy f through the network (rho), beside it (mu), smoothed (sigma).

    f is ``-|y - A D|`` for a measurement, in units of states, else ``tilt r(D)``. The other guided samplers
    of this kind are settings of it.

    Cost: N T NFE, all but the last also backwards if rho > 0, and N T reward calls. Where the reward is no
    measurement, each gradient and normal is a call more.

    Attributes:
        rho: strength of the gradient through the network; with 0 there is no backward pass.
        mu: size of the steps at the denoised sample.
        iterations: of those.
        sigma: standard deviation of the smoothing at pure noise; it falls with the noise.
        samples: normals of the smoothing.
        rho_schedule, mu_schedule: ``"constant"``, ``"increase"`` or ``"decrease"``, of mean 1.
        prior_std: of the twist that weights go by, for a measurement.

    Reference:
        Ye et al. (2024), "TFG: Unified Training-Free Guidance for Diffusion Models", arXiv:2409.15761.
    """

    rho: float = 1.0
    mu: float = 0.25
    iterations: int = 4
    sigma: float = 0.1
    samples: int = 1
    rho_schedule: Schedule = "increase"
    mu_schedule: Schedule = "increase"
    prior_std: float = 1.0
    is_scaled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rho", "mu", "sigma"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise ConfigError(f"{name} must be a number >= 0, got {value!r}")
        for name in ("rho_schedule", "mu_schedule"):
            if getattr(self, name) not in ("constant", "increase", "decrease"):
                raise ConfigError(
                    f"{name} must be constant, increase or decrease, got {getattr(self, name)!r}"
                )
        check_count("iterations", self.iterations, 0)
        check_count("samples", self.samples)
        check_positive("prior_std", self.prior_std)
        if not self.rho and not (self.mu and self.iterations):
            raise ConfigError("rho is 0 and mu or iterations too: nothing would be guided")

    def passes(self, size: int) -> int:
        return int(self.rho > 0)

    def calls(self, size: int) -> int:
        climbs = int(self.rho > 0) + (self.iterations if self.mu else 0)
        return 1 if size else 1 + climbs * (self.samples if self.sigma else 1)

    def twist(self, engine: Engine) -> Climb:
        assert engine.process is not None
        path = engine.process.interpolant
        times = engine.times[:-2]
        alpha, sigma = path.alpha(times).double(), path.sigma(times).double()
        noise = (sigma**2 / (alpha**2 + sigma**2)).sqrt()
        rho, mu = (along_levels(kind, alpha, sigma) for kind in (self.rho_schedule, self.mu_schedule))
        return Climb(
            engine.observed,
            rho=tuple(self.rho * s for s in rho),
            mu=tuple(self.mu * s for s in mu),
            width=tuple((self.sigma * noise).tolist()),
            iterations=self.iterations,
            samples=self.samples if self.sigma else 0,
            tilt=engine.tilt,
            value=_weighing(engine, self.prior_std),
        )


@dataclass(frozen=True, kw_only=True)
class MPGD(TFG):
    """Manifold-preserving guidance: one step at the denoised sample, no pass back through the network.

    Cost: N T NFE and reward calls, never backwards.

    Reference:
        He et al. (2023), "Manifold Preserving Guided Diffusion", arXiv:2311.16424.
    """

    rho: float = 0.0
    mu: float = 1.0
    iterations: int = 1
    sigma: float = 0.0
    mu_schedule: Schedule = "constant"


@dataclass(frozen=True, kw_only=True)
class FreeDoM(TFG):
    """Training-free guidance by energies with time travel: steps in the middle are made several times.

    Cost: N (T + (recurrence - 1) W) NFE for W levels in the window, all but the last also backwards.

    Reference:
        Yu et al. (2023), "FreeDoM: Training-Free Energy-Guided Conditional Diffusion Model",
        arXiv:2303.09833.
    """

    rho: float = 1.0
    mu: float = 0.0
    iterations: int = 0
    sigma: float = 0.0
    rho_schedule: Schedule = "constant"
    recurrence: int = 3
    window: tuple[float, float] = (0.3, 0.7)


@dataclass(frozen=True, kw_only=True)
class UGD(TFG):
    """Universal guidance: forward through the network, backward at the denoised sample, every step repeated.

    Cost: N (recurrence (T - 1) + 1) NFE, all but the last also backwards.

    Reference:
        Bansal et al. (2023), "Universal Guidance for Diffusion Models", arXiv:2302.07121.
    """

    rho: float = 1.0
    mu: float = 0.5
    iterations: int = 4
    sigma: float = 0.0
    rho_schedule: Schedule = "constant"
    mu_schedule: Schedule = "constant"
    recurrence: int = 2


def _weighing(engine: Engine, prior_std: float) -> MeasuredNearby | None:
    """What a state is worth for the weights: its likelihood around D, where there is a measurement."""
    if engine.observed is None:
        return None
    return MeasuredNearby(engine.observed, "isotropic", prior_std, pushes=False)
