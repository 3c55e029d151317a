"""The variance of a trajectory against what a solver's own memory says."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale.diagnostics import TrajectoryVariance
from itscale.errors import ConfigError
from itscale.methods import SMC, NestedSMC, Unguided
from itscale.process import Evaluation
from tests.methods.problem import linear_reward
from tests.oracles import mixture_2d


@pytest.mark.parametrize(
    "method",
    [Unguided(particles=12), SMC(particles=12, ess_threshold=1.0), NestedSMC(particles=4, children=3)],
    ids=repr,
)
def test_it_is_the_variance_along_each_particles_own_ancestry(method):
    """Three late levels; a three-step solver remembers the two before along the ancestry of every row."""
    model, steps = mixture_2d(), 12
    # linear path, uniform grid: kappa = (1 - t) / t, and levels 9, 10, 11 have 1/3, 1/5, 1/11
    watch, last = TrajectoryVariance(model, kappa_window=(0.0, 0.34)), {}

    def remember(step):
        watch(step)
        rows = step.particles.rows
        if step.level == steps - 1:
            t = torch.tensor(step.t, dtype=torch.float64)
            at = Evaluation(rows.x, t, model.predicts, rows.raw, model.interpolant)
            last["D"] = torch.stack([at.denoised, *rows.history])
        last["to"] = step.ancestors

    itscale.sample(
        model,
        reward=linear_reward,
        method=method,
        process=itscale.SDE(),
        solver="3m-sde",
        steps=steps,
        groups=3,
        seed=1,
        on_step=remember,
    )
    assert watch.count == 3
    # resampling before the last move, if any, only copies rows: `final` is its gather
    expected = last["D"].var(dim=0, unbiased=False).mean(-1).reshape(3, -1)
    torch.testing.assert_close(watch.values, expected.gather(1, last["to"]), rtol=1e-9, atol=1e-12)


def test_hesitation_is_seen():
    """Between two narrow modes the denoised sample turns late; in one of them it does not."""
    model = itscale.models.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.05, 0.05], dtype=torch.float64)
    watch = TrajectoryVariance(model, kappa_window=(0.0, 1.0))
    initial = torch.tensor([0.001, 2.0], dtype=torch.float64).reshape(1, 2, 1)
    itscale.sample(model, n=2, initial=initial, steps=40, solver="ddim", on_step=watch)
    assert watch.values[0, 0] > 100 * watch.values[0, 1]


def test_windows_that_say_nothing_are_refused():
    with pytest.raises(ConfigError, match="kappa_window"):
        TrajectoryVariance(mixture_2d(), kappa_window=(0.3, 0.1))
    watch = TrajectoryVariance(mixture_2d(), kappa_window=(0.0, 1e-6))
    itscale.sample(mixture_2d(), n=2, steps=4, on_step=watch)
    with pytest.raises(ConfigError, match="0 levels lay in kappa_window"):
        _ = watch.values
