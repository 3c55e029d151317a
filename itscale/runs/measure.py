"""The numbers of a cell: rewards, held-out rewards, diversity and density, one per group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.engine import Step
from itscale.particles import effective_sample_size, resample
from itscale.result import Result
from itscale.runs.cells import Cell
from itscale.runs.density import density, density_kind
from itscale.runs.draws import facts_of
from itscale.runs.molecules import internal_diversity, molecule_properties

MEASURES = (
    "reward",
    "reward_mean",
    "held_out",
    "held_out_mean",
    "density",
    "diversity",
    "unique_eves",
    "ess",
)


@dataclass(frozen=True)
class Measured:
    """Per group, in the order of the cell's groups.

    Attributes:
        answer: slot of the sample that the method hands over: the one of highest reward, the first of an
            unguided run, which does not look at rewards, or one drawn by weight where there are weights.
        values: measure -> one number per group, NaN where there is none. ``reward``, ``held_out`` and
            ``density`` are those of the answer; of an unguided run ``reward`` and ``held_out`` are the means
            over its samples, which is what any one of them is worth. ``reward_mean`` and ``held_out_mean``
            are weighted means over the final set, ``diversity`` its mean distance between two samples: of
            molecules one minus their similarity, of other tokens the share of positions that differ.
    """

    answer: Int64[Tensor, " g"]
    values: dict[str, Float64[Tensor, " g"]]


def measure(cell: Cell, result: Result) -> Measured:
    """Measure a finished cell; the density takes a few network rows."""
    is_steered = cell.method.needs.reward
    has_reward = not bool(result.rewards.isnan().all())
    answer = torch.zeros(result.groups, dtype=torch.int64)
    if is_steered and has_reward:
        answer = result.best().index[:, 0]
    elif not cell.method.needs.reward and result.claim["target"] == "tilted":
        answer = _drawn(result)
    values = {
        "reward_mean": _weighted_mean(result.rewards, result.weights),
        "held_out_mean": _weighted_mean(result.held_out, result.weights),
        "diversity": _spread(result),
        "unique_eves": _unique_eves(result),
        "ess": effective_sample_size(result.log_weights),
        "density": _density(cell, result, answer),
        "log_evidence": result.log_evidence,
    }
    if is_steered:
        values["reward"] = result.rewards.gather(1, answer[:, None])[:, 0]
        held_out = result.held_out
        values["held_out"] = _none(result) if held_out is None else held_out.gather(1, answer[:, None])[:, 0]
    else:
        values["reward"], values["held_out"] = values["reward_mean"], values["held_out_mean"]
    missing = _none(result)
    return Measured(answer, {k: missing if v is None else v for k, v in values.items()})


def summarise(cell: Cell, result: Result, measured: Measured) -> dict[str, Any]:
    """Return what ``summary.json`` of a cell holds: its line of the table, and the numbers behind it."""
    spent = result.spent
    return {
        "cell": cell.key,
        "index": cell.index,
        "label": cell.label,
        "method": cell.method_label,
        "is_steered": cell.method.needs.reward,
        "swept": dict(cell.swept),
        "budget": cell.resolved["run"]["budget"],
        "groups": cell.groups,
        "conditions": cell.conditions,
        "particles": result.particles,
        "nfe": max(spent.nfe),
        "model_rows": spent.total("model_rows"),
        "pilot_rows": result.pilot.total("model_rows") if result.pilot else 0,
        "reward_calls": spent.total("reward_calls"),
        "held_out_calls": spent.held_out_calls,
        "seconds": spent.seconds,
        "threads": torch.get_num_threads(),
        "peak_memory_bytes": spent.peak_memory_bytes,
        **{name: _mean(values) for name, values in measured.values.items()},
        "density_kind": density_kind(cell.model.load()),
        "modality": result.modality,
        "tilt": result.tilt,
        "claim": result.claim,
        "truncated": result.truncated,
        "dead_groups": result.dead_groups,
        "warnings": result.warnings,
        "resampled_at": _resampled_at(result),
        "composition": facts_of(cell, result),
        "per_group": {
            **{name: values.tolist() for name, values in measured.values.items()},
            "nfe": list(spent.nfe),
        },
        "config": cell.resolved,
    }


def sample_rows(
    cell: Cell, result: Result, measured: Measured, files: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Return one row per final sample, best first within each group."""
    ranks = result.rewards.nan_to_num(-math.inf).argsort(dim=1, descending=True, stable=True)
    lineage = None if result.ancestors is None else result.lineage()[0]
    small = result.samples[0, 0].numel() <= 16
    properties = molecule_properties(result.texts) if result.modality == "molecule" else None
    rows = []
    for g, group in enumerate(cell.groups):
        for rank, slot in enumerate(ranks[g].tolist()):
            is_answer = slot == int(measured.answer[g])
            rows.append(
                {
                    "cell": cell.key,
                    "label": cell.label,
                    "method": cell.method_label,
                    "condition": cell.conditions[g],
                    "seed": cell.run.seed,
                    "group": group,
                    "slot": slot,
                    "rank": rank,
                    "is_answer": is_answer,
                    "reward": float(result.rewards[g, slot]),
                    "held_out": None if result.held_out is None else float(result.held_out[g, slot]),
                    "log_weight": float(result.log_weights[g, slot]),
                    "eve": None if lineage is None else int(lineage[g, slot]),
                    "nfe": result.spent.nfe[g],
                    "reward_calls": result.spent.reward_calls[g],
                    "seconds": result.spent.seconds,
                    "file": files.get(g) if is_answer else None,
                    "sample": result.samples[g, slot].flatten().tolist() if small else None,
                    "text": None if result.texts is None else result.texts[g][slot],
                    **({} if properties is None else properties[g][slot]),
                }
            )
    return rows


def trace_rows(cell: Cell, step: Step) -> list[dict[str, Any]]:
    """Return one row per group for a move that was just made."""
    p = step.particles
    rows = []
    for g, group in enumerate(cell.groups):
        rewards = p.reward[g][p.reward[g].isfinite()]
        has = len(rewards) > 0
        low, high = rewards.quantile(torch.tensor([0.1, 0.9]).to(rewards)).tolist() if has else (None, None)
        rows.append(
            {
                "cell": cell.key,
                "group": group,
                "level": step.level,
                "t": step.t,
                "ess": float(step.ess[g]),
                "unique_eves": len(p.eve[g].unique()),
                "reward_mean": float(rewards.mean()) if has else None,
                "reward_max": float(rewards.max()) if has else None,
                "reward_q10": low,
                "reward_q90": high,
                "nfe": step.nfe,
            }
        )
    return rows


def _spread(result: Result) -> Float64[Tensor, " g"]:
    """Diversity by the kind of samples: dissimilarity of molecules, share of other tokens, or distance."""
    if result.modality == "molecule" and result.texts is not None:
        return internal_diversity(result.texts)
    if not result.states.is_floating_point():
        x = result.states
        n = x.shape[1]
        differ = torch.stack([(x != x[:, i : i + 1]).double().mean(dim=2).sum(dim=1) for i in range(n)])
        return differ.sum(dim=0) / (n * (n - 1)) if n > 1 else torch.full((len(x),), torch.nan).double()
    return diversity(result.samples)


def diversity(samples: Tensor) -> Float64[Tensor, " g"]:
    """Return the mean Euclidean distance between two samples of a group; NaN for a single one."""
    flat = samples.flatten(2).double()
    n = flat.shape[1]
    if n < 2:
        return torch.full((flat.shape[0],), torch.nan, dtype=torch.float64)
    return torch.cdist(flat, flat).sum(dim=(1, 2)) / (n * (n - 1))


def _drawn(result: Result) -> Int64[Tensor, " g"]:
    """A slot per group in proportion to weight: where the middle of the cumulated weights lies."""
    middle = torch.full((result.groups, 1), 0.5, dtype=torch.float64)
    return resample(result.log_weights, middle, "systematic", m=1).ancestors[:, 0]


def _unique_eves(result: Result) -> Float64[Tensor, " g"] | None:
    if result.ancestors is None:
        return None
    return torch.tensor([len(first.unique()) for first in result.lineage()[0]], dtype=torch.float64)


def _resampled_at(result: Result) -> list[list[int]] | None:
    """Per group, the levels whose population was resampled; None where its size changed."""
    if result.ancestors is None:
        return None
    moved = (result.ancestors != torch.arange(result.particles)).any(dim=2)
    return [column.nonzero().flatten().tolist() for column in moved.T]


def _density(cell: Cell, result: Result, answer: Tensor) -> Float64[Tensor, " g"] | None:
    states = result.states[torch.arange(result.groups), answer]
    return density(cell.model.load(), states, cell.conditions)


def _weighted_mean(values: Tensor | None, weights: Tensor) -> Float64[Tensor, " g"] | None:
    if values is None:
        return None
    weights = torch.where(values.isfinite(), weights, 0.0)
    return (weights * values.nan_to_num(0.0, neginf=0.0)).sum(dim=1) / weights.sum(dim=1)


def _none(result: Result) -> Float64[Tensor, " g"]:
    return torch.full((result.groups,), torch.nan, dtype=torch.float64)


def _mean(values: Tensor) -> float | None:
    known = values[values.isfinite()]
    return float(known.mean()) if len(known) else None
