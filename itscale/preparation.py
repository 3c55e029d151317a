"""Check the settings of a run and plan its sizes, before anything is evaluated."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

from torch import Tensor

from itscale.budget import Budget
from itscale.checks import (
    check_gradient,
    check_law,
    check_likelihood,
    check_measured,
    check_modality,
    check_noise,
    check_path,
    check_steps,
)
from itscale.decoders import Decoder
from itscale.errors import ConfigError
from itscale.grids import Grid, get_grid, validate_grid
from itscale.methods import FKC, SMC, Cost, Method, Plan, Unguided, get_method
from itscale.models.algebra import Product
from itscale.models.base import Model
from itscale.models.composition import Composition
from itscale.models.guidance import GuidanceLike
from itscale.models.superposition import Superposition
from itscale.models.wrapper import changes_law, is_uneven, trait
from itscale.operators import Observed
from itscale.process import (
    ODE,
    SDE,
    Coefficient,
    ComposedProcess,
    ContinuousProcess,
    Renoise,
    Start,
    SuperposedProcess,
)
from itscale.process.masking import Masking
from itscale.process.tokens import TokenProcess
from itscale.scheduled import SCHEDULER, Scheduled, scheduled
from itscale.scoring import as_reward
from itscale.solvers import SOLVERS, Solver, get_solver
from itscale.token_setup import token_setup
from itscale.values import DENOISED_COST, Denoised, Forecast, Value, get_value


@dataclass(frozen=True)
class Setup:
    """A run made ready: every setting checked, sizes planned, nothing evaluated yet."""

    model: Model
    method: Method
    view: Any  # ODE, SDE or Masking
    solver: Any  # a solver, or a decoder of a masked model
    grid: Any
    process: Any  # a continuous one, or a TokenProcess
    times: Tensor
    kernel: Any
    value: Value
    forecast: Forecast | None
    cost: Cost
    plan: Plan
    observed: Observed | None = None

    @property
    def steps(self) -> int:
        """Moves that were asked for: of a masked model without the last, which changes nothing."""
        return len(self.times) - (2 if isinstance(self.process, TokenProcess) else 1)

    def describe(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {
            "method": describe(self.method),
            "process": describe(self.view),
            "solver": describe(self.solver),
            "grid": describe(self.grid),
            "value": describe(self.value),
            "steps": self.steps,
        }


def prepare(
    model: Model,
    *,
    reward: Any = None,
    held_out: Any = None,
    method: str | Method | None = None,
    n: int | None = None,
    particles: int | None = None,
    steps: int | None = None,
    process: ODE | SDE | Masking | None = None,
    solver: str | Solver | Decoder | None = None,
    grid: Any = "native",
    guidance: GuidanceLike = 1.0,
    budget: Budget | None = None,
    value: str | Value = "denoised",
    template: Tensor | None = None,
    start_at: Start | None = None,
) -> Setup:
    """Check settings and plan sizes as ``sample`` does, without a network or reward call.

    Args:
        template: (groups, length) tokens that sequences of a masked model begin with.

    Raises:
        ConfigError, BudgetError: as ``sample``.
    """
    chosen = _sized(_method(method, reward, model), n, particles)
    if chosen.needs.reward and reward is None:
        raise ConfigError(f"{type(chosen).__name__} needs reward=; without one use method='unguided'")
    if chosen.needs.gradient and getattr(model, "tokens", None) is None:
        check_gradient(chosen, as_reward(reward))
    observed = None if reward is None else Observed.of(as_reward(reward), model)
    if observed is not None:
        check_measured(observed, model)
    if chosen.needs.likelihood:
        check_likelihood(chosen, observed)
    for which, given in (("reward", reward), ("held_out", held_out)):
        if given is not None:
            check_modality(model, which, as_reward(given))
    if changes_law(model):
        check_law(chosen, model, True)
    check_law(chosen, solver)
    if guidance != 1.0:
        model = model.given(None, guidance)
    if any(is_uneven(expert) for expert in getattr(model, "experts", ())):
        raise ConfigError(
            f"an expert of {model} has guidance in an interval, and experts of a composition are asked "
            "everywhere; leave interval out, or write guidance as (model.given(c) / model) ** w * model"
        )
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ConfigError(f"steps must be a whole number >= 1, got {steps!r}")
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigError(f"budget must be a Budget such as Budget(nfe=800), got {budget!r}")
    if getattr(model, "tokens", None) is not None:
        made = token_setup(
            model,
            chosen,
            reward=reward,
            steps=steps,
            process=process,
            solver=solver,
            grid=grid,
            value=value,
            template=template,
        )
        check_law(chosen, made.decoder)
        return Setup(
            model,
            chosen,
            made.view,
            made.decoder,
            grid,
            made.process,
            made.times,
            made.kernel,
            made.value,
            made.forecast,
            made.cost,
            chosen.plan(made.cost, budget),
        )
    steps = 50 if steps is None else steps
    if isinstance(process, Masking) or hasattr(solver, "has_density"):
        raise ConfigError(
            f"process={process!r} and solver={solver!r}: Masking and decoders are for masked models, and "
            f"{type(model).__name__} is a continuous one; use SDE() or ODE(), and a solver of itscale.solvers"
        )
    solver = cast("str | Solver | None", solver)
    if solver == SCHEDULER:
        taken = scheduled(model, steps)
        model, solver, grid = taken.model, taken.solver, taken.grid
        process = _scheduled_view(chosen, taken, process)
    if isinstance(grid, str) and grid == "native":
        grid = trait(model, "grid") or "uniform"
    view = process or _default_view(chosen, solver, model)
    if not isinstance(view, ODE | SDE):
        raise ConfigError(f"process must be ODE() or SDE(...), got {process!r}")
    if isinstance(view.coefficient, Renoise) and not trait(model, "distilled"):
        raise ConfigError(
            "diffusion='renoise' draws all noise anew, which keeps the law of models alone that were "
            "distilled "
            "to jump to the data; use diffusion='natural'"
        )
    stepper = _solver(solver, view, steps, chosen.needs.memoryless)
    if (wrap := getattr(stepper, "wrap", None)) is not None:  # a solver that changes what the model is asked
        if isinstance(model, Composition):
            raise ConfigError(
                f"{type(stepper).__name__} changes what one model is asked, and {model} has several; use "
                "solver='ancestral', or 'ddim'"
            )
        model = wrap(model)
    dynamics = _kind(model).of(model, view)
    if start_at is not None:
        dynamics = _started(dynamics, chosen, start_at)
    times = _times(get_grid(grid), dynamics, steps)
    _check_start(chosen, dynamics, float(times[0]))
    steps = len(times) - 1
    kernel = stepper.build(dynamics, times)
    valued, forecast = _value(value, chosen, dynamics, times)
    check_path(chosen, dynamics, stepper, kernel, steps, forecast)
    if hasattr(chosen, "check"):  # a method that builds kernels of its own
        chosen.check(dynamics, times)
    if observed is not None and hasattr(chosen, "check_observed"):
        chosen.check_observed(observed, dynamics, times)
    check_noise(chosen, kernel, steps)
    check_steps(stepper, steps)
    if chosen.needs.density and not stepper.gaussian:
        raise ConfigError(
            f"{type(chosen).__name__} weights by transition densities, and that of "
            f"{type(stepper).__name__} is not Gaussian; use {_densities()}"
        )
    if chosen.needs.memoryless and stepper.history:
        raise ConfigError(
            f"{type(chosen).__name__} joins pasts and futures of different particles, and "
            f"{type(stepper).__name__} remembers the past; use solver='ancestral'"
        )
    cost = Cost(
        steps,
        tuple(kernel.extra_looks(k) for k in range(steps)),
        tuple(kernel.is_noisy(k) for k in range(steps)),
        model.rows_per_look,
        DENOISED_COST if forecast is None else forecast.cost,
        tuple(dynamics.interpolant.kappa(times[:-1]).tolist()),
        reward is not None,
        reward is not None and as_reward(reward).gradient_ready,
        0 if observed is None else observed.likelihood.operator.size,
        tuple(dynamics.rows_at(float(t)) for t in times[:-1]) if is_uneven(model) else (),
    )
    plan = chosen.plan(cost, budget)
    return Setup(
        model, chosen, view, stepper, grid, dynamics, times, kernel, valued, forecast, cost, plan, observed
    )


def describe(value: Any) -> Any:
    """Return a setting as plain values: a dataclass becomes its name and its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            "name": type(value).__name__,
            **{f.name: describe(getattr(value, f.name)) for f in fields(value)},
        }
    if isinstance(value, list | tuple):
        return [describe(v) for v in value]
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    where = getattr(value, "__qualname__", None)  # of a function, whose repr has an address in it
    return repr(value) if where is None else f"{value.__module__}:{where}"


def _method(method: str | Method | None, reward: Any, model: Model) -> Method:
    if method is not None:
        return get_method(method)
    if reward is not None:
        return SMC()
    return FKC() if isinstance(model, Product) else Unguided()


def _value(
    value: str | Value, method: Method, process: ContinuousProcess, times: Tensor
) -> tuple[Value, Forecast | None]:
    chosen = get_value(value)
    forecast = chosen.build(process, times)
    if forecast is not None and method.needs.gradient:
        raise ConfigError(
            f"{type(method).__name__} follows the gradient of the denoised sample's reward, and "
            f"{type(chosen).__name__} is another value; use value='denoised', or a method without gradients"
        )
    return chosen if forecast is not None else Denoised(), forecast


def _sized(method: Any, n: int | None, particles: int | None) -> Any:
    if n is not None and particles is not None and n != particles:
        raise ConfigError(f"n={n} and particles={particles} name the same number; give one of them")
    wanted = n if n is not None else particles
    if wanted is None:
        return method
    if method.particles is not None and method.particles != wanted:
        raise ConfigError(
            f"method.particles={method.particles}, but {wanted} were asked for; give one of them"
        )
    return replace(method, particles=wanted)


def _kind(model: Model) -> type[ContinuousProcess]:
    if isinstance(model, Superposition):
        return SuperposedProcess
    return ComposedProcess if isinstance(model, Product) else ContinuousProcess


def _default_view(method: Method, solver: str | Solver | None, model: Model) -> ODE | SDE:
    """The SDE where a method or an estimate of densities needs noise, unless the solver brings it along.

    And for products: along the ODE particles collapse where exponents sum to more than 1.
    """
    chosen = None if solver is None else get_solver(solver)
    if isinstance(model, Product):
        return SDE() if chosen is None or chosen.is_stochastic else ODE()
    brings = getattr(chosen, "brings_noise", False) and not (chosen and chosen.is_stochastic)
    if trait(model, "distilled") and chosen is None:
        return SDE(diffusion=Renoise())
    density = getattr(model, "density", None) if isinstance(model, Composition) else None
    follows = density == "ito" and getattr(model, "divergence", None) is None
    return SDE() if (method.needs.noise or follows) and not brings else ODE()


def _scheduled_view(method: Method, taken: Scheduled, process: ODE | SDE | None) -> ODE | SDE:
    """The scheduler's process; another one cannot be what it does."""
    if process is not None and process != taken.view:
        raise ConfigError(
            f"solver='scheduler' brings its own process, {taken.view}; leave process out, or name a solver"
        )
    if method.needs.noise and isinstance(taken.view, ODE):
        raise ConfigError(
            f"{type(method).__name__} needs noise, and the pipeline's scheduler adds none; use "
            "solver=None, or give "
            "the pipeline one that does, such as EulerAncestralDiscreteScheduler"
        )
    return taken.view


def _started(process: ContinuousProcess, method: Method, start: Start) -> ContinuousProcess:
    """A process that starts in the middle."""
    if not isinstance(start, Start):
        raise ConfigError(f"start_at must be a Start(states, t), got {type(start).__name__}")
    if process.has_rates or process.remembers or process.prior is not None:
        raise ConfigError("start_at needs one model that starts from normal noise; compositions do not")
    if start.t <= process.t_start:
        raise ConfigError(f"start_at has t={start.t}, and the run starts at {process.t_start:.4g} anyway")
    return replace(process, starts_at=start.t)


def _check_start(method: Method, process: ContinuousProcess, t: float) -> None:
    if not method.needs.noise_start:
        return
    is_noise = process.starts_at is None and process.start_std(t) == float(process.interpolant.sigma(t))
    if not is_noise:
        raise ConfigError(
            f"{type(method).__name__} moves among the noises that a run starts from, and this one starts "
            "elsewhere "
            "(start_at, or a scheduler's own scale); leave these out, or use method='smc'"
        )


def _densities() -> str:
    return ", ".join(name for name, entry in SOLVERS.items() if entry.gaussian is True)


def _times(grid: Grid, process: ContinuousProcess, steps: int) -> Tensor:
    times = validate_grid(grid(process.interpolant, steps, process.t_start))
    if len(times) != steps + 1 and (process.starts_at is None or len(times) < 2):
        raise ConfigError(f"time grid {grid!r} gave {len(times)} times for {steps} steps, not {steps + 1}")
    return times


def _solver(solver: str | Solver | None, view: ODE | SDE, steps: int, memoryless: bool) -> Solver:
    is_deterministic = isinstance(view, ODE) or view.coefficient == Coefficient("zero")
    if solver is None:
        if is_deterministic:
            return get_solver("dpm++2m" if steps > 1 else "ddim")
        renoises = isinstance(view.coefficient, Renoise)
        return get_solver("ancestral" if memoryless or renoises else "2m-sde")
    chosen = get_solver(solver)
    name = type(chosen).__name__
    if isinstance(view, ODE) and view.prior is not None and getattr(chosen, "brings_noise", False):
        raise ConfigError(
            f"{name} adds noise, and no noising step keeps the marginals of {view.prior!r}; use 'heun'"
        )
    if chosen.is_stochastic and is_deterministic:
        raise ConfigError(
            f"{name} is a stochastic solver and the process has no noise; use SDE(), or 'dpm++2m'"
        )
    if not chosen.is_stochastic and not is_deterministic:
        raise ConfigError(f"{name} solves the ODE and the process is an SDE; use ODE(), or solver='2m-sde'")
    return chosen
