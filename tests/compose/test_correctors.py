"""Langevin moves between steps, the gauge that is fitted, and what runs beside uncorrected."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from itscale.experiments.compose_mixtures import Truth, experts, grid

import itscale
from itscale.engine import Worker
from itscale.engine.rows import Rows
from itscale.errors import ConfigError
from itscale.methods import FKC
from itscale.models import GaussianMixture, wrap
from itscale.noise import Noise
from itscale.process import SDE, ComposedProcess, Natural
from itscale.solvers import LangevinMove

GROUPS, PARTICLES = 300, 32
Z = 4.89


def square():
    """A law of one expert, its integrals, and that expert."""
    a, _ = experts()
    return a**2, Truth.of(lambda x: 2 * a.log_prob(x)), a


def deviation(values, truth=0.0):
    return float((values.mean() - truth) / (values.std() / len(values) ** 0.5))


@pytest.mark.parametrize("corrections", [0, 2])
def test_adjusted_moves_leave_evidence_and_means_without_bias_at_a_dozen_steps(corrections):
    law, truth, _ = square()
    result = itscale.sample(
        law.corrected(weights="kernel"),
        method=FKC(
            particles=PARTICLES, corrections=corrections, adjusted=corrections > 0, correction_size=0.8
        ),
        groups=GROUPS,
        steps=12,
        process=SDE(diffusion=1.5),
        solver="euler-maruyama",
        grid=grid,
        seed=5,
    )
    ratio = (result.log_evidence - truth.log_z).exp()
    means = (result.weights * result.samples[..., 0].double()).sum(1)
    assert abs(deviation(ratio, 1.0)) < Z
    assert float(ratio.median()) == pytest.approx(1, abs=0.3)  # wrong weights have a tail that hides a bias
    assert abs(deviation(ratio * (means - truth.mean))) < Z
    if corrections:
        assert 0.3 < result.notes["moves accepted"] / result.notes["moves tried"] < 0.999


def test_moves_keep_the_law_of_a_level_if_they_are_adjusted():
    """On normal data, from exact draws: what 40 moves do to the variance, with and without the test."""
    normal = GaussianMixture([1.0], [[0.0]], [0.7], interpolant="vp", dtype=torch.float64)
    process, time = ComposedProcess.of(normal**2, SDE()), torch.tensor(0.8, dtype=torch.float64)
    alpha, sigma = float(process.interpolant.alpha(time)), float(process.interpolant.sigma(time))
    variance = (sigma**2 + alpha**2 * 0.49) / 2
    generator = torch.Generator().manual_seed(3)
    draw = partial(torch.randn, 20_000, 1, generator=generator, dtype=torch.float64)
    kernel, found = LangevinMove(process.interpolant.sigma(time[None]), 0.9), {}
    for adjusted in (True, False):
        here = process.evaluate(draw() * math.sqrt(variance), time)
        for _ in range(40):
            there = process.evaluate(kernel(here, (), 0, None, draw()).x, time)
            x = there.x
            if adjusted:
                ahead = process.log_prob(there.x, time) - process.log_prob(here.x, time)
                ratio = ahead + kernel.log_reversal(here, there, 0)
                taken = torch.rand(20_000, generator=generator, dtype=torch.float64).log() < ratio
                x = torch.where(taken[:, None], there.x, here.x)
            here = process.evaluate(x, time)
        found[adjusted] = float(here.x.var()) / variance
    error = math.sqrt(2 / 20_000)
    assert found[True] == pytest.approx(1, abs=5 * error)
    stiffness = kernel.step(0) / variance  # the stationary law of x (1 - s) + sqrt(2 s v) z
    assert found[False] == pytest.approx(1 / (1 - stiffness / 2), abs=6 * error)


def test_the_metropolis_ratio_is_that_of_densities_and_of_moves_there_and_back():
    a, b = experts()
    process = ComposedProcess.of(a * b, SDE())
    times = torch.tensor([0.1, 0.6, 1.0], dtype=torch.float64)
    kernel = LangevinMove(process.interpolant.sigma(times), 0.6)
    worker = Worker(process, kernel, times, Noise(0), None, None, [None], torch.float64)
    x, y = (torch.linspace(low, 1.5, 7, dtype=torch.float64)[:, None] for low in (-2.0, -1.0))
    rows, moved = (Rows(s, process.evaluate(s, times[1]).raw) for s in (x, y))
    k = kernel.step(1)

    def log_move(start, end):
        mean = start + k * process.evaluate(start, times[1]).combined
        return torch.distributions.Normal(mean, math.sqrt(2 * k)).log_prob(end)[:, 0]

    wanted = process.log_prob(y, times[1]) - process.log_prob(x, times[1]) + log_move(y, x) - log_move(x, y)
    torch.testing.assert_close(worker.langevin_ratio(rows, moved, 1, kernel), wanted)


def test_more_moves_keep_more_ancestors_apart():
    """Copies of a particle are two particles again after a few moves; with hardly any noise they stay one."""
    law, _, _ = square()
    distinct = {}
    for corrections in (0, 3):
        result = itscale.sample(
            law,
            method=FKC(particles=200, ess_threshold=1.0, corrections=corrections),
            steps=30,
            process=SDE(diffusion=Natural(0.001)),
            seed=1,
        )
        spread = result.samples[0, :, 0].sort().values.diff()
        distinct[corrections] = int((spread > 0.01).sum())
    assert distinct[3] > 1.3 * distinct[0], distinct


def test_a_fitted_gauge_leaves_normal_data_with_equal_weights_whatever_its_variance():
    """The Gaussian gauge needs the variance of the data, here a wrong one; the fitted one finds it."""
    normal = GaussianMixture([1.0], [[0.0] * 3], [0.7], dtype=torch.float64)
    spread = {}
    for gauge in ("adaptive", "gaussian"):
        law = (normal**4).corrected(gauge=gauge, variance=3.0)
        done = itscale.sample(
            law,
            method=FKC(particles=600, ess_threshold=0.0),
            steps=100,
            process=SDE(interpolant="vp"),
            seed=3,
        )
        spread[gauge] = float(done.log_weights.std())
        if gauge == "adaptive":  # the drift has the fitted gauge too: five standard errors of 1800 numbers
            assert float(done.samples.var()) == pytest.approx(0.49 / 4, rel=5 * math.sqrt(2 / 1800))
        assert done.claim["evidence"] == ("consistent" if gauge == "adaptive" else "unbiased")
    assert spread["adaptive"] < 1e-8
    assert spread["gaussian"] > 0.1


def test_groups_are_fitted_alone_and_few_particles_take_the_usual_gauge():
    law, _, _ = square()
    settings = {"steps": 20, "process": SDE(), "seed": 4}
    adaptive = law.corrected(gauge="adaptive")
    both = itscale.sample(adaptive, method=FKC(particles=16), groups=[3, 7], **settings)
    one = itscale.sample(adaptive, method=FKC(particles=16), groups=[7], **settings)
    torch.testing.assert_close(both.log_weights[1:], one.log_weights)
    few, usual = (itscale.sample(p, method=FKC(particles=2), **settings) for p in (adaptive, law))
    torch.testing.assert_close(few.samples, usual.samples)


def test_what_is_uncorrected_is_the_same_run_without_weights():
    a, b = experts()
    settings = {"steps": 15, "process": SDE(), "groups": 2, "seed": 6}
    method = FKC(particles=8, uncorrected=5, ess_threshold=1.0)
    done = itscale.sample(a * b, method=method, **settings)
    bare = itscale.sample(a * b, method=FKC(particles=8, uncorrected=5, ess_threshold=0.0), **settings)
    assert torch.equal(bare.uncorrected, bare.samples[:, :5])  # the same noise, and nothing resampled
    assert torch.equal(done.uncorrected, bare.uncorrected)
    assert not torch.equal(done.uncorrected, done.samples[:, :5])
    assert list(done.spent.nfe) == [13 * 15] * 2
    without = itscale.sample(a * b, method=replace(method, uncorrected=0), **settings)
    assert torch.equal(done.samples, without.samples)
    assert without.uncorrected is None


def test_the_uncorrected_are_saved_and_go_on_from_a_checkpoint(tmp_path):
    a, b = experts()
    settings = {"steps": 8, "process": SDE(), "seed": 6}
    method = FKC(particles=6, uncorrected=3, corrections=1)
    whole = itscale.sample(a * b, method=method, **settings)

    def stop(step):
        if step.level == 4:
            raise RuntimeError("stop")

    path = tmp_path / "run.pt"
    with pytest.raises(RuntimeError, match="stop"):
        itscale.sample(a * b, method=method, checkpoint=path, on_step=stop, **settings)
    done = itscale.sample(a * b, method=method, checkpoint=path, **settings)
    assert torch.equal(done.uncorrected, whole.uncorrected)
    assert torch.equal(done.log_weights, whole.log_weights)
    loaded = itscale.Result.load(done.save(tmp_path / "result"))
    assert torch.equal(loaded.uncorrected, done.uncorrected)


NETWORK = wrap(lambda x, t: -x, predicts="velocity", event_shape=(1,), interpolant="vp")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"correction_size": 1.5}, r"correction_size must be in \(0, 1\), got 1.5"),
        ({"corrections": -1}, "corrections must be a whole number >= 0, got -1"),
        ({"adjusted": True}, "there are none; set corrections=1"),
    ],
)
def test_sizes_without_meaning_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        FKC(**settings)


def test_what_moves_cannot_know_is_refused():
    a, _ = experts()
    method = FKC(particles=4, corrections=1, adjusted=True)
    with pytest.raises(ConfigError, match="density of every expert at every time, and Wrapped"):
        itscale.sample(NETWORK**1, method=method, steps=5, process=SDE())
    with pytest.raises(ConfigError, match=r"write one model as model \*\* 1"):
        itscale.sample(a, method=method, steps=5, process=SDE())
    with pytest.raises(ConfigError, match="follows log-densities along the path"):
        itscale.sample(
            (a**2).corrected(density="ito"), method=FKC(particles=4, corrections=1), steps=5, process=SDE()
        )
    with pytest.raises(ConfigError, match="is fitted to the particles"):
        itscale.sample((a**2).corrected(gauge="adaptive", weights="kernel"), method="fkc", steps=5)
