"""What a configuration can name, room by room, and the models among it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from itscale.decoders import DECODERS, get_decoder
from itscale.errors import ConfigError
from itscale.grids import GRIDS, get_grid
from itscale.interpolants import INTERPOLANTS, get_interpolant
from itscale.methods import METHODS
from itscale.models.analytic import GaussianMixture
from itscale.models.bundled import BUNDLED
from itscale.models.guidance import Guidance, GuidanceLike
from itscale.models.loading import is_pipeline, is_place, load
from itscale.pools import Local, Ray
from itscale.potentials import POTENTIALS, get_potential
from itscale.process import ODE, SDE, Coefficient, Epsilon, Masking, Natural, get_diffusion
from itscale.runs.compositions import COMPOSITIONS, expert_settings
from itscale.runs.documents import canonical
from itscale.runs.problems import PROBLEM
from itscale.runs.schema import Room, check_keys, check_options
from itscale.scoring import names
from itscale.solvers import SOLVERS, get_solver
from itscale.values import VALUES, get_value

PROCESSES: dict[str, type] = {"ode": ODE, "sde": SDE, "masking": Masking}
DIFFUSIONS: dict[str, type] = {"natural": Natural, "coefficient": Coefficient, "epsilon": Epsilon}
POOLS: dict[str, type] = {"local": Local, "ray": Ray}

METHOD = Room("method", METHODS, list_with="itscale methods")
PROCESS = Room("process", PROCESSES)
SOLVER = Room("solver", SOLVERS, get_solver, "itscale solvers")
DECODER = Room("solver of a masked model", DECODERS, get_decoder)
VALUE = Room("value", VALUES, get_value)
POOL = Room("pool", POOLS)
GRID = Room("time grid", GRIDS, get_grid)

ROOMS: dict[str, Room] = {
    "interpolant": Room("interpolant", INTERPOLANTS, get_interpolant),
    "diffusion": Room("diffusion coefficient", DIFFUSIONS, get_diffusion),
    "potential": Room("potential", POTENTIALS, get_potential),
    "solver": SOLVER,
    "grid": GRID,
    "method": METHOD,
    "inner": SOLVER,
}
"""Parameter name -> room: these options of methods, processes and solvers name things themselves."""

SWEPT: dict[str, Room] = {
    "method": METHOD,
    "process": PROCESS,
    "solver": SOLVER,
    "value": VALUE,
    "pool": POOL,
    "problem": PROBLEM,
}
"""Section -> room, for sections whose options are those of the thing they name and nothing else."""

_EVERY_ROOM = {
    **ROOMS,
    "decoder": DECODER,
    "process": PROCESS,
    "value": VALUE,
    "pool": POOL,
    "problem": PROBLEM,
}


def gaussian_mixture(
    weights: list[float] | None = None,
    means: list[list[float]] | None = None,
    stds: list[float] | None = None,
    interpolant: str = "linear",
) -> GaussianMixture:
    """Three Gaussians in the plane, or those given: velocity, score and density in closed form."""
    means = means or [[-2.0, 0.0], [2.0, 0.0], [0.0, 2.5]]
    share, std = [1 / len(means)] * len(means), [0.5] * len(means)
    return GaussianMixture(weights or share, means, stds or std, interpolant=interpolant)


MODELS: dict[str, Callable[..., Any]] = {
    "gaussian-mixture": gaussian_mixture,
    **{name: entry.load for name, entry in BUNDLED.items()},
    **COMPOSITIONS,
}
MODEL = Room("model", MODELS, list_with="itscale models")


@dataclass(frozen=True)
class ModelSetting:
    """A model by name, loaded when it is needed.

    Attributes:
        name: of the table; ``module:function`` or ``./file.py:function`` that returns a model or a diffusers
            pipeline; or the folder or hub id of a pipeline, as ``itscale.load`` takes them.
        condition: one for all groups, or a list that is dealt out to them in turn.
        guidance: classifier-free guidance weight, or a mapping of a ``Guidance``.
        options: arguments of its factory.
    """

    name: str
    condition: Any = None
    guidance: GuidanceLike = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> ModelSetting:
        """Check a ``model`` section; nothing is loaded."""
        rest = dict(value)
        name = rest.pop("name", None)
        condition, guidance = rest.pop("condition", None), rest.pop("guidance", 1.0)
        guidance = Guidance.read(guidance, "model.guidance")
        if name is None:
            raise ConfigError(
                f"model needs a name: one of {', '.join(sorted(MODELS))}, 'module:function', or a "
                "pipeline's folder"
            )
        if isinstance(name, str) and (names.split_reference(name) or is_place(name)):
            return cls(name, condition, guidance, rest)
        name = MODEL.find(name, "model")
        known = [*inspect.signature(MODELS[name]).parameters, "condition", "guidance"]
        check_keys(rest, known, "model", f"model {name!r}")
        check_options(MODELS[name], rest, "model", {})
        setting = cls(name, condition, guidance, rest)
        if setting.is_composition and (condition is not None or guidance != 1):
            raise ConfigError(f"model.condition and model.guidance belong to the experts of a {name}")
        for i, expert in enumerate(setting.experts):
            try:
                cls.read(expert)
            except ConfigError as error:
                where = re.sub(r"\bmodel(?=[.:]|$)", f"model.experts.{i}", str(error), count=1)
                raise type(error)(where) from error
        return setting

    @property
    def is_composition(self) -> bool:
        """Whether it stands for several models."""
        return self.name in COMPOSITIONS

    @property
    def experts(self) -> list[dict[str, Any]]:
        """The models of a composition as mappings, without exponents; none of any other model."""
        return expert_settings(self.options.get("experts"), self.name) if self.is_composition else []

    def networks(self) -> dict[str, Any]:
        """Return what is loaded, by name: the model, or each expert of a composition."""
        if not self.is_composition:
            return {self.name: self.load()}
        return {e["name"]: ModelSetting.read(e).load() for e in self.experts}

    @property
    def is_masked(self) -> bool:
        """Whether it is a masked model; one of the user's own is loaded to tell."""
        if self.is_composition:
            return any(ModelSetting.read(expert).is_masked for expert in self.experts)
        if self.name in BUNDLED:
            return BUNDLED[self.name].is_masked
        return self.name not in MODELS and getattr(self.load(), "tokens", None) is not None

    def load(self) -> Any:
        """Return the model; one that was loaded before is shared."""
        return _loaded(self.name, canonical(dict(self.options)))


@cache
def _loaded(name: str, options: str) -> Any:
    if name in MODELS:
        return MODELS[name](**json.loads(options))
    reference = names.split_reference(name)
    if reference is None:
        return load(name, **json.loads(options))
    try:
        factory = names.load_reference(reference[0])
    except ConfigError as error:
        raise ConfigError(str(error).replace("reward", "model")) from error
    made = factory(**json.loads(options))
    return load(made) if is_pipeline(made) else made


def every_room() -> Mapping[str, Room]:
    """All rooms, for turning settings back into names."""
    return _EVERY_ROOM
