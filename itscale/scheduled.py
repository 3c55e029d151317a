"""``solver="scheduler"``: a pipeline's scheduler as process, solver and grid of this project."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from itscale.errors import ConfigError
from itscale.models.base import Model
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.scheduled import Looks, ScheduledModel, read_looks
from itscale.process import ODE, SDE, Renoise
from itscale.solvers import Solver, get_solver
from itscale.solvers.plms import PLMS

SCHEDULER = "scheduler"
LEAST_OF_ORDER_3 = 15


@dataclass(frozen=True)
class Scheduled:
    """What a scheduler stands for: unguided, with the same latents, it is the pipeline's own call."""

    model: Model
    view: ODE | SDE
    solver: Solver
    times: Tensor

    def grid(self, interpolant: Any, steps: int, t_start: float = 0.0) -> Tensor:
        """The scheduler's times; of a later start those that are left."""
        return self.times[self.times >= t_start - 1e-9]


def scheduled(model: Model, steps: int) -> Scheduled:
    """Read the scheduler of the pipeline inside a model.

    Raises:
        ConfigError: without a pipeline, for a scheduler that has no equal here, or a setting of it.
    """
    pipeline = pipeline_of(model)
    if pipeline is None:
        raise ConfigError(
            f"solver='scheduler' is that of a diffusers pipeline, and {type(model).__name__} has none; "
            "use solver=None, or a name that 'itscale solvers' lists"
        )
    scheduler = pipeline.pipe.scheduler
    name = type(scheduler).__name__
    if name not in RULES:
        raise ConfigError(
            f"{name} has no equal among the solvers here ({', '.join(sorted(RULES))} have); use solver=None, "
            "or give the pipeline one of these: "
            "pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)"
        )
    config = scheduler.config
    solver, noise = RULES[name](config)
    if solver == "legacy-3m" and steps < LEAST_OF_ORDER_3:
        raise ConfigError(
            f"{name} of order 3 lowers its order early below {LEAST_OF_ORDER_3} steps, which no solver here "
            "does; take more steps, or set solver_order=2 in its config"
        )
    looks = read_looks(pipeline, steps)
    if isinstance(solver, PLMS):
        solver, looks = _plms(looks, config, steps)
    elif looks.left and get_solver(solver).history:
        raise ConfigError(
            f"{name} with final_sigmas_type={config.get('final_sigmas_type')!r} ends in a multistep step; "
            "set final_sigmas_type='zero' in its config"
        )
    view = ODE() if noise is None else SDE(diffusion=noise)
    asked = _asked(pipeline, looks, config)
    return Scheduled(_exchanged(model, pipeline, asked), view, get_solver(solver), looks.times)


def pipeline_of(model: Any) -> PipelineModel | None:
    """The pipeline inside a model, if there is one."""
    while model is not None and not isinstance(model, PipelineModel):
        model = getattr(model, "model", None)
    return model


def _exchanged(model: Any, old: PipelineModel, new: Model) -> Any:
    """The model with its pipeline exchanged."""
    if model is old:
        return new
    return dataclasses.replace(model, model=_exchanged(model.model, old, new))


def _asked(pipeline: PipelineModel, looks: Looks, config: Any) -> ScheduledModel:
    clips = bool(config.get("clip_sample", False))
    if config.get("thresholding", False):
        raise ConfigError("the scheduler has thresholding=True, which no solver here does; set it to False")
    if not clips or pipeline.distilled:
        return ScheduledModel(pipeline, looks)
    if type(pipeline.pipe.scheduler).__name__ != "DDPMScheduler":
        raise ConfigError(
            "the scheduler has clip_sample=True, which clips the denoised sample and not the noise that goes "
            "with it; set clip_sample=False in its config, or use solver='ddim' or 'dpm++2m'"
        )
    return ScheduledModel(pipeline, looks, clip=float(config.get("clip_sample_range", 1.0)))


Rule = Callable[[Any], tuple[Any, Any]]
"""From a scheduler's configuration to a solver and a diffusion coefficient; None is the ODE."""


def _ddpm(config: Any) -> tuple[Any, Any]:
    if config.get("variance_type", "fixed_small") not in ("fixed_small", "fixed_small_log"):
        raise ConfigError(
            f"DDPMScheduler with variance_type={config['variance_type']!r} has no equal here; "
            "'fixed_small' has"
        )
    return "ancestral", "natural"


def _dpm(config: Any) -> tuple[Any, Any]:
    kind, order = config.get("algorithm_type", "dpmsolver++"), config.get("solver_order", 2)
    solvers = {
        ("dpmsolver++", 1): ("ddim", None),
        ("dpmsolver++", 2): ("dpm++2m", None),
        ("dpmsolver++", 3): ("legacy-3m", None),
        ("sde-dpmsolver++", 1): ("ancestral", "natural"),
        ("sde-dpmsolver++", 2): ("2m-sde", "natural"),
    }
    if (kind, order) not in solvers:
        raise ConfigError(
            f"DPMSolverMultistepScheduler with algorithm_type={kind!r} and solver_order={order} has no equal "
            "here; 'dpmsolver++' of order 1 to 3 and 'sde-dpmsolver++' of order 1 and 2 have"
        )
    solver, noise = solvers[kind, order]
    if config.get("solver_type", "midpoint") == "heun" and order == 2:
        from itscale.solvers import SDE2M, DPMSolver2M

        return (DPMSolver2M if noise is None else SDE2M)(form="heun"), noise
    return solver, noise


def _unipc(config: Any) -> tuple[Any, Any]:
    from itscale.solvers import UniPC

    if not config.get("predict_x0", True):
        raise ConfigError("UniPCMultistepScheduler with predict_x0=False has no equal here; set it to True")
    if config.get("solver_order", 2) > 2:
        raise ConfigError(
            "UniPCMultistepScheduler of solver_order 3 lowers its order over its last steps, which no "
            "solver here "
            "does; set solver_order=2 in its config"
        )
    return UniPC(p=int(config.get("solver_order", 2)), variant=config.get("solver_type", "bh2")), None


def _pndm(config: Any) -> tuple[Any, Any]:
    if not config.get("skip_prk_steps", False):
        raise ConfigError(
            "PNDMScheduler with skip_prk_steps=False has no equal here; set it to True, as the releases of "
            "Stable Diffusion do, or use solver='pndm'"
        )
    return PLMS(), None


def _plms(looks: Looks, config: Any, steps: int) -> tuple[Any, Looks]:
    """The multistep solver with what its scheduler leaves in, which its own last step deals with."""
    apart = int(config["num_train_timesteps"]) // steps
    if not bool((-looks.labels.diff() == apart).all()):
        raise ConfigError(
            f"PNDMScheduler steps {apart} labels at a time, and timestep_spacing="
            f"{config.get('timestep_spacing')!r} sets others at {steps} steps; set timestep_spacing='leading'"
        )
    return PLMS(looks.left), dataclasses.replace(looks, left=0.0)


def _flow(config: Any) -> tuple[Any, Any]:
    return ("ancestral", Renoise()) if config.get("stochastic_sampling", False) else ("ddim", None)


RULES: dict[str, Rule] = {
    "DDIMScheduler": lambda config: ("ddim", None),
    "DDPMScheduler": _ddpm,
    "EulerDiscreteScheduler": lambda config: ("ddim", None),
    "EulerAncestralDiscreteScheduler": lambda config: ("ancestral", "natural"),
    "HeunDiscreteScheduler": lambda config: ("edm-heun", None),
    "DPMSolverMultistepScheduler": _dpm,
    "PNDMScheduler": _pndm,
    "UniPCMultistepScheduler": _unipc,
    "LCMScheduler": lambda config: ("ancestral", Renoise()),
    "CMStochasticIterativeScheduler": lambda config: ("ancestral", Renoise()),
    "FlowMatchEulerDiscreteScheduler": _flow,
    "FlowMatchHeunDiscreteScheduler": lambda config: ("heun", None),
}
