"""Time-shift sampling: its rule, both modes against plain loops, and who refuses it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import itscale
from itscale import grids
from itscale.errors import ConfigError
from itscale.interpolants import VP
from itscale.methods import SMC
from itscale.models import GaussianMixture
from itscale.models.time_shift import VarianceLabel
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import DDIM, TimeShift
from tests.engine.setting import total
from tests.oracles import mixture_2d
from tests.solvers.drive import drive

SIZE = 300


def model() -> GaussianMixture:
    means = 0.5 * torch.randn(3, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return GaussianMixture([0.5, 0.3, 0.2], means, [0.3] * 3, interpolant="vp", dtype=torch.float64)


def unit(rows: int = 6) -> torch.Tensor:
    return torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_label_is_that_of_the_samples_own_variance():
    path, rule = VP(), VarianceLabel(window=0.2, cutoff=0.1, data_variance=0.3)
    true = torch.tensor([0.3, 0.36, 0.42])
    variance = path.alpha(true) ** 2 * 0.3 + path.sigma(true) ** 2
    x = unit(3)
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True) * variance.sqrt()[:, None]
    found = rule(path, x, torch.tensor(0.35, dtype=torch.float64))
    torch.testing.assert_close(found, true.double(), rtol=0, atol=0.5e-3 + 1e-6)  # half a label
    below = rule(path, x, torch.tensor(0.95, dtype=torch.float64))
    assert torch.equal(below, torch.full((3,), 0.95, dtype=torch.float64))  # under the cut-off
    first = rule(path, x, torch.tensor(0.0, dtype=torch.float64))
    assert (first == 0).all()  # the start is never shifted
    # without the data's part the same states look cleaner than they are
    biased = VarianceLabel(window=0.2, cutoff=0.1, data_variance=0.0)
    assert (biased(path, x, torch.tensor(0.35, dtype=torch.float64)) < found).all()


@pytest.mark.parametrize("mode", ["label", "target"])
def test_both_modes_are_their_plain_loops(mode):
    target, path, steps = model(), VP(), 8
    solver = TimeShift(window=0.06, cutoff=0.2, data_variance=0.3, mode=mode)
    setup = itscale.preparation.prepare(target, solver=solver, process=itscale.ODE(), steps=steps)
    x = unit() * float(path.sigma(setup.times[0]))
    mine = drive(setup.process, solver, setup.times, x)
    rule = solver._rule
    shifted = 0
    for now, after in itertools.pairwise(setup.times[:-1]):
        label = rule(path, x, now)
        shifted += int((label != now).sum())
        rows = []
        for i in range(len(x)):
            t0, t1 = (label[i], after) if mode == "label" else (now, after + label[i] - now)
            denoised = target.denoised(x[i : i + 1], label[i] if mode == "label" else now)
            noise = (x[i : i + 1] - path.alpha(t0) * denoised) / path.sigma(t0)
            rows.append(path.alpha(t1) * denoised + path.sigma(t1) * noise)
        x = torch.cat(rows)
    last = setup.times[-2]
    label = rule(path, x, last) if mode == "label" else last.expand(len(x))
    x = torch.cat([target.denoised(x[i : i + 1], label[i]) for i in range(len(x))])
    assert shifted > 10
    torch.testing.assert_close(mine, x, rtol=1e-9, atol=1e-9)


def test_no_window_is_ddim_bit_for_bit():
    runs = [
        itscale.sample(model(), n=4, steps=6, process=itscale.ODE(), solver=s, seed=3).samples
        for s in (TimeShift(window=0.0), DDIM())
    ]
    assert torch.equal(*runs)


def test_it_runs_through_sample_in_micro_batches():
    runs = [
        itscale.sample(
            model(),
            n=5,
            groups=g,
            steps=6,
            solver=TimeShift(),
            seed=3,
            pool=itscale.pools.Local(2, bitwise=True),
        )
        for g in (2, [1])
    ]
    assert runs[0].spent.nfe == [5 * 6] * 2
    assert torch.equal(runs[0].samples[1:], runs[1].samples)


def test_small_states_other_paths_and_weighted_methods_are_refused():
    process = ContinuousProcess.of(mixture_2d(), ODE())
    times = grids.uniform(process.interpolant, 4, 0.0)
    with pytest.raises(ConfigError, match="2 are too few: it needs 256"):
        TimeShift().build(process, times)
    with pytest.raises(ConfigError, match="own path"):
        TimeShift().build(ContinuousProcess.of(model(), ODE(interpolant="linear")), times)
    with pytest.raises(ConfigError, match="SMC weights samples"):
        itscale.sample(
            model(), reward=total, method=SMC(particles=4), solver=TimeShift(), process=itscale.ODE()
        )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"window": 1.0}, "window must be in"),
        ({"window": -0.1}, "window must be in"),
        ({"cutoff": 1.5}, "cutoff must be in"),
        ({"data_variance": -1.0}, "data_variance must be"),
        ({"data_variance": math.nan}, "data_variance must be"),
        ({"mode": "both"}, "mode must be"),
    ],
    ids=str,
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ConfigError, match=message):
        TimeShift(**setting)
