"""Masked models: methods, decoders and compositions on sequences that can be enumerated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from itscale.decoders import Confidence, FirstHitting, Sharpening
from itscale.methods import (
    DTS,
    FKC,
    SMC,
    Beam,
    Funnel,
    ImportanceSampling,
    Method,
    NestedSMC,
    ParticleGibbs,
    TwistedSMC,
    Unguided,
    WasteFreeSMC,
)
from itscale.models.enumerable import Enumerable, from_function
from itscale.sampling import sample
from itscale.scoring import Reward
from itscale.values import Completions, Tabulated
from itscale.verify.check import Check, judge

LENGTH, TOKENS = 5, 4


@dataclass(frozen=True)
class MaskedEntrant:
    """A method with the settings it is judged in, on the law ``prod p_k ^ power_k`` of two models."""

    name: str
    method: Method
    setting: dict[str, Any] = field(default_factory=dict)
    powers: tuple[float, float] | None = None


def chain(seed: int) -> Enumerable:
    """A law of five tokens in which neighbours depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    alone = 0.6 * torch.randn(LENGTH, TOKENS, dtype=torch.float64, generator=generator)
    pair = torch.randn(LENGTH - 1, TOKENS, TOKENS, dtype=torch.float64, generator=generator)

    def log_weight(x: Tensor) -> Tensor:
        terms = [alone[i, x[:, i]] for i in range(LENGTH)]
        terms += [pair[i, x[:, i], x[:, i + 1]] for i in range(LENGTH - 1)]
        return torch.stack(terms).sum(dim=0)  # over terms

    return from_function(TOKENS, LENGTH, log_weight)


def zeros(sequences: Tensor) -> Tensor:
    """How many tokens are 0, and whether the ends are alike."""
    return (sequences == 0).sum(dim=1).double() + (sequences[:, 0] == sequences[:, -1])


BASE, OTHER = chain(1), chain(2)
VALUES = Tabulated(BASE.soft_values(zeros(BASE.sequences)))
ENTRANTS = (
    MaskedEntrant("smc", SMC()),
    MaskedEntrant("importance", ImportanceSampling()),
    MaskedEntrant("smc in the model's order", SMC(), {"solver": Confidence()}),
    MaskedEntrant(
        "smc, corrected temperature",
        SMC(),
        {"solver": FirstHitting(sharpening=Sharpening(temperature=1.3), correct=True)},
    ),
    MaskedEntrant("smc, completions as values", SMC(), {"value": Completions(samples=4)}),
    MaskedEntrant("nested-smc, exact values", NestedSMC(children=4), {"value": VALUES}),
    MaskedEntrant("twisted-smc", TwistedSMC(tempering="polynomial")),
    MaskedEntrant("funnel", Funnel()),
    MaskedEntrant("beam, unbiased", Beam(selection="unbiased")),
    MaskedEntrant("dts", DTS()),
    MaskedEntrant("waste-free-smc", WasteFreeSMC()),
    MaskedEntrant("particle-gibbs", ParticleGibbs(sweeps=4)),
    MaskedEntrant("fkc, annealed", FKC(), powers=(1.5, 0.0)),
    MaskedEntrant("fkc, product", FKC(), powers=(0.7, 0.6)),
    MaskedEntrant("smc, guidance", SMC(), powers=(1.5, -0.5)),
    MaskedEntrant(
        "fkc, product, adapted order", FKC(), {"solver": FirstHitting(order="adapted")}, (0.7, 0.6)
    ),
)
QUICK = ("smc", "nested-smc, exact values", "fkc, product")


def masked_laws(particles: int, groups: int, quick: bool) -> list[Check]:
    """Run every entrant on the exact model, tilted by a reward."""
    reward = Reward.of(zeros, name="zeros", modality="sequence")
    checks = _plain(particles * groups)
    for entrant in ENTRANTS:
        if quick and entrant.name not in QUICK:
            continue
        model, law, log_z = BASE, BASE, 0.0
        if entrant.powers is not None:
            law, log_z = BASE.power(entrant.powers, OTHER)
            model = BASE ** entrant.powers[0] * OTHER ** entrant.powers[1]
        rewards = zeros(law.sequences)
        target, gain = law.tilted_law(rewards)
        result = sample(
            model,
            reward=reward,
            method=entrant.method,
            particles=particles // getattr(entrant.method, "children", 1),
            groups=groups,
            **entrant.setting,
        )
        name = f"{entrant.name} (masked)"
        weighting = "equal" if result.claim["evidence"] is None else "evidence"
        found = result.expect(result.rewards, weighting=weighting)
        checks.append(judge(name, "E[r]", found.value, float(target @ rewards), found.standard_error))
        if result.claim["evidence"] is not None:
            ratio = (result.log_evidence - log_z - gain).exp()
            mean, error = float(ratio.mean()), float(ratio.std() / math.sqrt(groups))
            truth = log_z + gain
            checks.append(judge(name, "log Z", truth + math.log(mean), truth, error / mean))
    return checks


def _plain(n: int) -> list[Check]:
    """Shares of the likeliest sequence among unguided samples."""
    top = int(BASE.law.argmax())
    likeliest = BASE.sequences[top]
    checks = []
    for name, solver in (("first-hitting", FirstHitting()), ("confidence", Confidence())):
        drawn = sample(BASE, method=Unguided(particles=n), solver=solver).samples[0]
        is_top = (drawn == likeliest).all(dim=1).double()
        error = float(is_top.std()) / math.sqrt(n)
        checks.append(
            judge(f"{name} (masked)", "share of the mode", float(is_top.mean()), float(BASE.law[top]), error)
        )
    return checks
