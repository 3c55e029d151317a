"""Steps taken straight from a network's output are those on denoised samples, whatever it predicts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from itscale import grids, models
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import DDIM, RK4, DPMSolver2, DPMSolver2S, DPMSolver3S, EDMHeun
from itscale.solvers.linear_update import combine
from tests.solvers.drive import looker

LEVEL = 2


def setting(kind: str):
    def network(x, t):
        return torch.sin(3 * x + t.reshape(-1, 1))

    model = models.wrap(network, predicts=kind, interpolant="vp", event_shape=(2,))
    process = ContinuousProcess.of(model, ODE())
    times = grids.uniform(process.interpolant, 6, process.t_start)
    x = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return process, times, x


def by_samples(kernel, process, times, x):
    """A step as its stages state it."""
    look = looker(process, times)
    known = [look(x, LEVEL).denoised]
    *inner, end = kernel.stages[LEVEL]
    for stage in inner:
        known.append(look(combine(stage.form, x, known), stage.t).denoised)
    return combine(end.form, x, known)


@pytest.mark.parametrize("kind", ["velocity", "noise", "denoised", "v"])
@pytest.mark.parametrize("solver", [EDMHeun(), DPMSolver2(), DPMSolver2S(), DPMSolver3S(), RK4()], ids=repr)
def test_stages_on_outputs_are_stages_on_denoised_samples(solver, kind):
    process, times, x = setting(kind)
    kernel = solver.build(process, times)
    at = process.evaluate(x, times[LEVEL])
    for _ in range(2):  # the second time from factors that are remembered
        mine = kernel(at, (), LEVEL, looker(process, times), None).x
        torch.testing.assert_close(mine, by_samples(kernel, process, times, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["velocity", "noise", "denoised", "v"])
def test_a_step_without_memory_is_the_table_on_the_denoised_sample(kind):
    process, times, x = setting(kind)
    kernel = DDIM().build(process, times)
    at = process.evaluate(x, times[LEVEL])
    expected = kernel.a[0, LEVEL] * x + kernel.b[0, LEVEL, 0] * at.denoised
    other = replace(kernel, a=2 * kernel.a)
    for _ in range(2):
        torch.testing.assert_close(kernel(at, (), LEVEL, None, None).x, expected, rtol=1e-12, atol=1e-12)
    changed = expected + kernel.a[0, LEVEL] * x  # a table of its own, whatever the first one remembered
    torch.testing.assert_close(other(at, (), LEVEL, None, None).x, changed, rtol=1e-12, atol=1e-12)


def test_outputs_in_half_precision_leave_the_state_as_it_is():
    process, times, x = setting("v")
    at = process.evaluate(x.float(), times[LEVEL])
    rough = replace(at, raw=at.raw.bfloat16())
    for solver in (DDIM(), DPMSolver2()):
        kernel = solver.build(process, times)
        fine, mine = (kernel(a, (), LEVEL, looker(process, times), None).x for a in (at, rough))
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, fine, rtol=0, atol=1e-2)  # eight bits of an output of size 1


def test_combinations_pass_over_what_has_no_part():
    nan = torch.full((3,), torch.nan)
    x, y = torch.arange(3.0), torch.ones(3)
    assert torch.equal(combine((1.0, 0.0, 2.0), x, (nan, y)), x + 2)
    assert torch.equal(combine((0.0, 0.0, 2.0), nan, (nan, y)), 2 * y)
    assert torch.equal(combine((3.0, 0.0), x, (nan,)), 3 * x)
    same = combine((1.0, 0.0), x, (nan,))
    assert torch.equal(same, x)
    assert same is not x
    assert combine((0.0, 1.0), x, (y.half(),)).dtype == torch.float32
