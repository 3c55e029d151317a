"""What a configuration will cost, found without a network or reward call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from itscale.errors import ConfigError
from itscale.models.conditions import check_conditions
from itscale.preparation import Setup, prepare
from itscale.runs.cells import Cell
from itscale.runs.config import Config
from itscale.runs.density import density_rows
from itscale.sampling import PILOT_PARTICLES, profile_looks, shipped_profile
from itscale.sampling.prompting import check_prompts

STATES_HELD = 6  # states, network outputs, history, samples, and a gathered copy of each kind


@dataclass(frozen=True)
class CellPlan:
    """The cost of a cell; counts are for all its groups together unless they say otherwise.

    Attributes:
        steps: intervals of the time grid, or moves of a masked model's decoder.
        particles: per group.
        nfe: per group.
        model_rows: rows through the network while sampling.
        reward_calls: at most; a reward with a cache runs less often.
        held_out_calls: final samples that the held-out reward sees.
        pilot_rows: of ``tilt: auto``.
        density_rows: of the density figure of the report.
        memory_bytes: states of all groups; the network's weights and activations come on top.
    """

    key: str
    label: str
    method: str
    groups: int
    steps: int
    particles: int
    nfe: int
    model_rows: int
    reward_calls: int
    held_out_calls: int
    pilot_rows: int
    density_rows: int
    memory_bytes: int

    @property
    def all_rows(self) -> int:
        """Network rows of any kind."""
        return self.model_rows + self.pilot_rows + self.density_rows


@dataclass(frozen=True)
class RunPlan:
    """The cost of a run, cell by cell.

    Attributes:
        weights_bytes: of the networks.
    """

    cells: tuple[CellPlan, ...]
    weights_bytes: int

    @property
    def nfe(self) -> int:
        return sum(c.nfe * c.groups for c in self.cells)

    @property
    def model_rows(self) -> int:
        """Network rows of any kind."""
        return sum(c.all_rows for c in self.cells)

    @property
    def reward_calls(self) -> int:
        return sum(c.reward_calls for c in self.cells)

    @property
    def memory_bytes(self) -> int:
        """Peak: cells run one after the other."""
        return self.weights_bytes + max(c.memory_bytes for c in self.cells)


def plan(config: Config) -> RunPlan:
    """Size every cell. Models are loaded, and nothing is evaluated.

    Raises:
        ConfigError, BudgetError: for the first cell that cannot run, naming it.
    """
    cells = tuple(plan_cell(cell) for cell in config.cells)
    models = {id(m): m for cell in config.cells for m in cell.model.networks().values()}
    return RunPlan(cells, sum(_weights_bytes(m) for m in models.values()))


def prepare_cell(cell: Cell) -> Setup:
    """Check a cell against its model, as ``sample`` will.

    Raises:
        ConfigError, BudgetError: naming the cell.
    """
    model = cell.model.load()
    try:
        check_conditions(model, cell.conditions)
        reward, held_out = cell.sketch(), cell.reward("held_out")
        check_prompts(cell.conditions, reward=reward, held_out=held_out)
        return prepare(
            model,
            reward=reward,
            held_out=held_out,
            method=cell.method,
            steps=cell.run.steps,
            process=cell.process,
            solver=cell.solver,
            value=cell.value,
            grid=cell.run.grid,
            guidance=cell.model.guidance,
            budget=cell.run.budget,
            template=cell.template,
        )
    except ConfigError as error:
        raise type(error)(f"cell '{cell.label}': {error}") from error


def plan_cell(cell: Cell) -> CellPlan:
    """Size one cell."""
    setup = prepare_cell(cell)
    sizes, model, groups = setup.plan, setup.model, len(cell.groups)
    reward = cell.sketch()
    calls = sizes.reward_calls
    if reward is not None and not setup.method.needs.reward:
        calls = max(calls, sizes.particles)  # scored once at the end, though nothing is steered
    pilot = PILOT_PARTICLES * cell.steps * cell.model.load().rows_per_look
    pilot = groups * pilot if cell.run.tilt == "auto" else 0
    shipped = reward is not None and shipped_profile(setup.process, reward, cell.conditions)
    if setup.method.needs.profile and not shipped:
        pilot += profile_looks(groups, setup.cost) * model.rows_per_look
    held = STATES_HELD * sizes.particles * getattr(cell.method, "children", 1)
    return CellPlan(
        key=cell.key,
        label=cell.label,
        method=cell.method_label,
        groups=groups,
        steps=setup.cost.steps,
        particles=sizes.particles,
        nfe=sizes.nfe,
        model_rows=groups * (sizes.nfe * model.rows_per_look if sizes.rows is None else sizes.rows),
        reward_calls=groups * calls,
        held_out_calls=groups * sizes.particles if cell.values.get("held_out") is not None else 0,
        pilot_rows=pilot,
        density_rows=density_rows(cell.model.load(), groups),
        memory_bytes=groups * held * math.prod(model.event_shape) * _element_size(model),
    )


def _element_size(model: Any) -> int:
    return torch.empty(0, dtype=getattr(model, "dtype", torch.float32)).element_size()


def _weights_bytes(model: Any) -> int:
    fields = vars(model).values() if hasattr(model, "__dict__") else ()
    parts = getattr(getattr(model, "pipe", None), "components", {}).values()
    networks = [v for v in (model, *fields, *parts) if isinstance(v, torch.nn.Module)]
    parameters = {id(p): p for network in networks for p in network.parameters()}
    return sum(p.numel() * p.element_size() for p in parameters.values())
