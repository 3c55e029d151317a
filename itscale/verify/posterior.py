"""Posteriors of a measured mixture, sampled by the methods that take a measurement, against the exact one."""

from __future__ import annotations

import math

import torch

from itscale.methods import DDSMC, DPS, LGDMC, MPGD, TDS, TMPD, ConjugateSMC, PiGDM
from itscale.models import GaussianMixture
from itscale.models.measured_mixture import MeasuredMixture
from itscale.operators import Dense, GaussianLikelihood
from itscale.sampling import sample
from itscale.verify.check import Check, judge
from itscale.verify.tilted import FIRST_ORDER_ALLOWANCE, STEPS, Entrant

ENTRANTS = (
    Entrant("conjugate-smc", ConjugateSMC()),
    Entrant("pigdm, weighted", PiGDM(correct=True)),
    Entrant("tmpd, weighted", TMPD(correct=True)),
    Entrant("lgd-mc, weighted", LGDMC(correct=True, samples=4)),
    Entrant("dps, weighted", DPS(correct=True)),
    Entrant("mpgd, weighted", MPGD(correct=True)),
    Entrant("tds with a likelihood", TDS()),
    Entrant("ddsmc", DDSMC()),
)
QUICK = ("conjugate-smc", "pigdm, weighted")
MATRIX, SIGMA, Y = ((1.0, 0.5),), 0.7, 1.2


def posteriors(particles: int, groups: int, quick: bool) -> list[Check]:
    """Compare the mean along and across the measurement, and the evidence."""
    prior = GaussianMixture(
        [0.45, 0.25, 0.20, 0.10],
        [[-2.0, 0.0], [1.5, 1.5], [1.0, -2.0], [3.0, 0.0]],
        [0.5, 0.4, 0.6, 0.3],
        dtype=torch.float64,
    )
    matrix = torch.tensor(MATRIX, dtype=torch.float64)
    y = torch.tensor([Y], dtype=torch.float64)
    truth = MeasuredMixture.of(prior, matrix, y, SIGMA)
    likelihood = GaussianLikelihood(Dense(matrix, (2,)), y, SIGMA)
    checks = []
    for entrant in ENTRANTS:
        if quick and entrant.name not in QUICK:
            continue
        result = sample(
            prior,
            reward=likelihood,
            method=entrant.method,
            particles=particles,
            steps=STEPS,
            groups=groups,
            solver="ancestral",
        )
        name = f"{entrant.name} (a measured mixture)"
        for k in range(2):
            found = result.expect(lambda x, k=k: x[:, k], weighting="evidence")
            exact = float(truth.mean()[k])
            error = found.standard_error
            checks.append(judge(name, f"E[x{k}]", found.value, exact, error, FIRST_ORDER_ALLOWANCE))
        ratio = (result.log_evidence - truth.log_evidence).exp()
        mean, error = float(ratio.mean()), float(ratio.std() / math.sqrt(result.groups))
        value = truth.log_evidence + math.log(mean)
        checks.append(judge(name, "log p(y)", value, truth.log_evidence, error / mean, FIRST_ORDER_ALLOWANCE))
    return checks
