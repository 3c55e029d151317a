"""Make a result of a run that is over."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from itscale.budget import Spent
from itscale.engine import Engine, Particles
from itscale.methods import Claim, Method
from itscale.particles import log_mean_exp
from itscale.result import Result
from itscale.sampling.balance import warnings_of


def make_result(
    engine: Engine,
    method: Method,
    p: Particles,
    trace: list[dict[str, Any]],
    truncated: bool,
    *,
    uncorrected: Particles | None = None,
    modality: str,
    pilot: Spent | None,
    config: dict[str, Any],
) -> Result:
    """Bring the particles home; an ended run claims nothing about the target."""
    aside = None if uncorrected is None else engine.samples(uncorrected)
    final = engine.finish(p)
    is_law = engine.process is None or engine.process.is_law
    claim = method.claim if is_law else Claim(None)
    if engine.process is not None and engine.process.has_rates and claim.target == "base":
        claim = Claim(None)  # the sum of scores followed without weights: no law is known of it
    if engine.process is not None and engine.process.is_fitted and claim.evidence is not None:
        claim = replace(claim, evidence="consistent")
    has_evidence = claim.evidence is not None and not truncated
    evidence = p.log_evidence + log_mean_exp(p.log_weights)
    has_lineage = getattr(method, "has_lineage", True) and len({a.shape for a in engine.ancestors}) == 1
    facts, said = engine.pool.report()
    warnings = [*engine.watch.warnings, *warnings_of(trace), *said]
    target = None if truncated else claim.target
    if truncated:
        warnings.append(
            "the run was ended early: it hands over the best it had, or samples denoised as they stood"
        )
    if dead := [i for i, z in enumerate(evidence.tolist()) if z == -math.inf]:
        warnings.append(f"groups {dead} lost all their weight; their samples say nothing about the target")
    return Result(
        samples=final.samples,
        states=final.states,
        rewards=p.reward,
        held_out=final.held_out,
        log_weights=p.log_weights,
        log_evidence=evidence if has_evidence else torch.full_like(evidence, torch.nan),
        ess=torch.tensor([row["ess"] for row in trace], dtype=torch.float64),
        ancestors=torch.stack(engine.ancestors) if has_lineage else None,
        times=engine.times,
        tilt=engine.tilt,
        claim={"target": target, "evidence": claim.evidence if has_evidence else None},
        spent=engine.ledger.spent(),
        modality=modality,
        truncated=truncated,
        pilot=pilot,
        trace=trace,
        config=config,
        warnings=warnings,
        notes={**engine.notes, **facts},
        log_densities=engine.log_densities(p),
        uncorrected=aside,
    )


def with_decoded(result: Result, model: Any) -> Result:
    """Put what a masked model decodes its tokens to in their place; texts go beside them."""
    decoded = model.decode(result.states.flatten(0, 1))
    if isinstance(decoded, torch.Tensor):
        return replace(result, samples=decoded.unflatten(0, result.states.shape[:2]))
    n = result.states.shape[1]
    return replace(result, texts=[list(decoded[g * n : (g + 1) * n]) for g in range(result.states.shape[0])])
