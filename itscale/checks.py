"""What cannot work together: errors before any network or reward call."""

from __future__ import annotations

from typing import Any

from itscale.errors import ConfigError
from itscale.methods import Method
from itscale.models.base import Given, Model
from itscale.operators import GaussianLikelihood, Observed
from itscale.process import (
    ContinuousProcess,
)
from itscale.scoring import Reward
from itscale.solvers import Kernel, Solver
from itscale.values import Forecast


def check_path(
    method: Method,
    process: ContinuousProcess,
    solver: Solver,
    kernel: Kernel,
    steps: int,
    forecast: Forecast | None,
) -> None:
    """Raise where log-densities are estimated along a path and the path would be left."""
    if process.can_jump:
        return
    estimate = f"density={getattr(process.model, 'density', None)!r} follows log-densities along the path"
    exact = "" if process.is_adjusted else "density='exact' where densities are known, or "
    if any(kernel.extra_looks(k) for k in range(steps)):
        raise ConfigError(
            f"{estimate}, and {type(solver).__name__} looks aside within a step; use {exact}a solver with "
            "one evaluation a step, such as '2m-sde'"
        )
    needs = method.needs
    if needs.jumps or needs.memoryless or needs.density:
        raise ConfigError(
            f"{estimate}, and {type(method).__name__} joins or redraws parts of paths; use {exact}a method "
            "that only moves forward, such as 'smc' or 'svdd'"
        )
    if forecast is not None:
        raise ConfigError(f"{estimate}, and a value looks ahead of it; use {exact}value='denoised'")


def check_law(method: Method, solver: Any, changes: bool = False) -> None:
    """Raise where a heuristic would be weighted as if it had a law to tilt."""
    if (changes or getattr(solver, "changes_law", False)) and method.claim.target == "tilted":
        raise ConfigError(
            f"{type(method).__name__} weights samples for an exact target, and a heuristic around the "
            "model (or its solver) changes its law; take it off, or use method='best-of-n'"
        )


def check_gradient(method: Method, reward: Reward) -> None:
    if not reward.gradient_ready:
        raise ConfigError(
            f"{type(method).__name__} needs the reward's gradient, and {reward.name!r} has none: declare "
            "@itscale.reward(differentiable=True) if it has one, or use a method without gradients, such as "
            "'smc' or guide='population'"
        )


def check_measured(observed: Observed, model: Model) -> None:
    """Raise if the operator measures samples of another shape than the model makes."""
    expected = tuple(observed.likelihood.operator.event_shape)
    if observed.affine is not None and expected != tuple(model.event_shape):
        raise ConfigError(
            f"the operator {type(observed.likelihood.operator).__name__} measures samples {expected}, "
            f"and the "
            f"model makes {tuple(model.event_shape)}; make the operator for that shape"
        )


def check_likelihood(method: Method, observed: Observed | None) -> None:
    """Raise unless the reward is a likelihood of the kind that a method needs."""
    name, kind = type(method).__name__, method.needs.likelihood
    if observed is None:
        raise ConfigError(
            f"{name} needs a measurement: reward= must be a likelihood by itself, such as "
            "operators.GaussianLikelihood(operator, measurement, sigma)"
        )
    operator = type(observed.likelihood.operator).__name__
    is_normal = isinstance(observed.likelihood, GaussianLikelihood)
    if kind == "conjugate" and observed.is_spectral and not is_normal:
        raise ConfigError(
            f"{name} needs Gaussian noise, and the reward is a {type(observed.likelihood).__name__}; "
            f"use 'tds', "
            "'smc' or a guided method with correct=True"
        )
    if kind == "any" or (kind == "linear" and observed.is_linear) or observed.is_spectral:
        return
    if kind == "smooth":
        if not observed.is_linear and not observed.likelihood.operator.is_differentiable:
            raise ConfigError(f"{name} follows the gradient of {operator}, which has none; use 'smc'")
        return
    if observed.affine is None:
        raise ConfigError(
            f"{name} works with a linear operator of states, and this model's decoder is not affine; use a "
            "method that follows gradients, such as 'dps' or 'tds'"
        )
    lacks = "an adjoint" if kind == "linear" else "a singular value decomposition"
    raise ConfigError(
        f"{name} needs an operator with {lacks}, and {operator} has none; use a linear one of "
        "itscale.operators (Mask, BlockAverage, Blur, FourierMask, Dense), or a method that follows "
        "gradients, "
        "such as 'dps'"
    )


def check_modality(model: Model, which: str, reward: Reward) -> None:
    """Raise if a reward states that it scores something else than the model makes.

    What a latent model decodes to is not known from its states, so it is left to the run.
    """
    scored, made = reward.spec.modality, model.modality
    if scored == made or scored == "any" or made in ("any", "latent"):
        return
    name = type(model.model if isinstance(model, Given) else model).__name__
    raise ConfigError(
        f"{which} {reward.name!r} is a reward of {scored!r}, and the model {name} makes {made!r}; "
        f"use a reward of {made!r} or of 'any' samples, or a model of {scored!r}"
    )


def check_steps(solver: Solver, steps: int) -> None:
    """The last step is the jump to the denoised sample; all that a solver combines comes before it."""
    lag = getattr(solver, "lag", solver.history)
    least = max(lag + 1, 2 if solver.evaluations > 1 else 1)
    if steps >= least:
        return
    reason = "its last step has a single evaluation"
    if lag:
        reason = f"it combines {lag} earlier evaluations with the newest"
    plain = "ancestral" if solver.is_stochastic else "ddim"
    raise ConfigError(
        f"{solver} needs at least {least} steps, because {reason}, and steps is {steps}; take more steps, "
        f"or solver={plain!r}"
    )


def check_noise(method: Method, kernel: Kernel, steps: int) -> None:
    if method.needs.noise and not any(kernel.is_noisy(k) for k in range(steps)):
        raise ConfigError(
            f"{type(method).__name__} needs noise, and no move of this process has any: copies of a particle "
            "would never part; use process=SDE(...) and at least 2 steps"
        )
