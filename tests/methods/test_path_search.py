"""Search over paths: against a plain loop, the forward jump, and what it buys."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import itscale
from itscale.errors import BudgetError, ConfigError
from itscale.methods import BestOfN, PathSearch
from itscale.noise import Address, Noise, Purpose
from itscale.preparation import prepare
from itscale.process import ODE, ContinuousProcess, StudentT
from itscale.solvers import AdaptiveDPM, get_solver
from itscale.solvers.excursion import Excursion, noise_level
from tests.methods.test_rbf import lead, line
from tests.methods.test_rbf import search as search_by
from tests.oracles import mixture_16d
from tests.solvers.drive import gaussian

STEPS, LATENTS, CHILDREN, SEED = 8, 3, 4, 3


def search(method, budget, kind="linear", groups=40):
    return search_by(method, budget, kind, groups, process=itscale.ODE(), solver="ddim")


def normal(purpose: int, move: int, slot: int, draw: int = 0) -> torch.Tensor:
    at = Address(*(torch.tensor([v]) for v in (0, move, slot, draw)))
    return Noise(SEED).normal(purpose, at, (16,), torch.float64)


class PlainLoop:
    """One latent after the other, as the algorithm is written down, on the linear path."""

    def __init__(self, first: int, back: float, descent: int) -> None:
        self.model = mixture_16d()
        self.times = prepare(self.model, process=ODE(), solver="ddim", steps=STEPS).times.tolist()
        self.first, self.back, self.descent = first, back, descent

    def euler(self, x: torch.Tensor, t: float, t_next: float) -> torch.Tensor:
        return x + (t_next - t) * self.model.velocity(x, t)

    def run(self) -> list[tuple[float, torch.Tensor]]:
        latents = []
        for slot in range(LATENTS):
            x = normal(Purpose.INITIAL, 0, slot)
            for level in range(self.first):
                x = self.euler(x, self.times[level], self.times[level + 1])
            latents.append(x)
        move, found = 1 + self.first, []
        for level in range(self.first, STEPS - 1):
            found = []
            t, t_next = self.times[level], self.times[level + 1]
            high = max(0.0, t - self.back)
            for slot, low in enumerate(latents):
                for child in range(CHILDREN):
                    q, z = high / t, normal(Purpose.MOVE, move, slot, child)
                    x = q * low + math.sqrt((1 - high) ** 2 - (q * (1 - t)) ** 2) * z
                    for j in range(self.descent):
                        ends = (high + (t_next - high) * i / self.descent for i in (j, j + 1))
                        x = self.euler(x, *ends)
                    denoised = self.model.denoised(x, t_next)
                    found.append((float(line(denoised)), x, denoised))
            found.sort(key=lambda entry: -entry[0])
            latents = [x for _, x, _ in found[:LATENTS]]
            move += 2  # the excursion, and the choice
        return [(score, denoised[0]) for score, _, denoised in found[:LATENTS]]


@pytest.mark.parametrize(("first", "back", "descent"), [(5, 0.5, 3), (1, 0.6, 1), (6, 0.99, 4)])
def test_latents_in_one_batch_find_what_a_plain_loop_finds(first, back, descent):
    method = PathSearch(
        particles=LATENTS,
        children=CHILDREN,
        start=(first + 0.1) / STEPS,
        back=back,
        descent=descent,
        inner="ddim",
    )
    result = itscale.sample(
        mixture_16d(), reward=line, method=method, process=ODE(), solver="ddim", steps=STEPS, seed=SEED
    )
    for slot, (score, sample) in enumerate(PlainLoop(first, back, descent).run()):
        torch.testing.assert_close(result.samples[0, slot], sample, rtol=1e-9, atol=1e-9)
        assert float(result.rewards[0, slot]) == pytest.approx(score, rel=1e-6)
    tried = LATENTS * CHILDREN * (STEPS - 1 - first)
    assert result.spent.nfe == [LATENTS * first + tried * (descent + 1)]
    assert result.spent.reward_calls == [tried]


@pytest.mark.parametrize("path", ["linear", "vp", "cosine", "edm"])
@pytest.mark.parametrize("back", [0.1, 0.6, 0.999])
def test_an_excursion_takes_a_marginal_to_the_next(path, back):
    """Exact for one Gaussian but for the steps down: 400 of first order leave 1e-2 of the variance."""
    model = gaussian(0.7, 0.5)
    process = ContinuousProcess.of(model, ODE(interpolant=path))
    times = prepare(model, process=ODE(interpolant=path), steps=8, grid="log-snr").times
    level = 4
    kernel = Excursion.build(process, times, level, back, 400, get_solver("ddim"))
    t, t_next = float(times[level]), float(times[level + 1])
    alpha, sigma = (float(f(t)) for f in (process.interpolant.alpha, process.interpolant.sigma))
    # the move is affine in the state and the noise: read its coefficients off three rows
    x = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    z = torch.tensor([[[0.0]], [[0.0]], [[1.0]]], dtype=torch.float64)
    at = process.evaluate(x, times[level])

    def look(y, where, rows=None):
        return process.evaluate(y, torch.tensor(where, dtype=torch.float64))

    end = kernel(at, (), level, look, z).x[:, 0]
    mean, slope, spread = float(end[0]), float(end[1] - end[0]), float(end[2] - end[0])
    alpha_next, sigma_next = (
        float(f(t_next)) for f in (process.interpolant.alpha, process.interpolant.sigma)
    )
    assert mean + slope * alpha * 0.7 == pytest.approx(alpha_next * 0.7, abs=5e-3)
    variance = (slope * alpha * 0.5) ** 2 + (slope * sigma) ** 2 + spread**2
    assert variance == pytest.approx((alpha_next * 0.5) ** 2 + sigma_next**2, rel=1e-2)
    high = min(noise_level(process, t) + back, noise_level(process, process.t_start))
    assert noise_level(process, kernel.cycle.times[0]) == pytest.approx(high, abs=1e-9)
    assert kernel.cycle.times[-1] == t_next


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_at_equal_cost_it_beats_best_of_n(kind):
    paths, plain = (search(m, 500, kind).best().rewards.flatten() for m in (PathSearch(), BestOfN()))
    assert lead(paths, plain) > 3


def test_excursions_almost_to_pure_noise_are_no_better_than_best_of_n():
    """As published: near the end of so short a run that is one round of little else than fresh noises."""
    far, plain = (search(m, 500).best().rewards.flatten() for m in (PathSearch.paper(), BestOfN()))
    assert lead(far, plain) < 0


def test_what_cannot_work_is_refused():
    wrong: list[dict[str, Any]] = [
        *({name: 0} for name in ("particles", "children", "descent", "start", "back")),
        {"start": 1.0},
        {"inner": "dpm"},
    ]
    for bad in wrong:
        with pytest.raises(ConfigError):
            PathSearch(**bad)
    with pytest.raises(BudgetError, match=r"at least 1 particles need nfe = 107 and budget.nfe is 106"):
        search(PathSearch(), 106)
    adaptive: Any = AdaptiveDPM()
    with pytest.raises(ConfigError, match="inner must be a solver of the ODE"):
        search(PathSearch(inner="2m-sde"), 500)
    with pytest.raises(ConfigError, match="inner must be a solver of the ODE"):
        search(PathSearch(inner="restart"), 500)
    with pytest.raises(ConfigError, match="equally often"):
        search(PathSearch(inner=adaptive, back=0.99), 5000)
    settings: dict[str, Any] = {"reward": line, "method": PathSearch(particles=1)}
    with pytest.raises(ConfigError, match="at least 3 steps"):
        itscale.sample(mixture_16d(), steps=2, **settings)
    with pytest.raises(ConfigError, match="keeps the marginals"):
        itscale.sample(mixture_16d(), process=ODE(prior=StudentT(9.0)), solver="heun", steps=8, **settings)


def test_it_searches_the_ode_by_default():
    assert (
        itscale.sample(mixture_16d(), reward=line, method="search-over-paths", steps=4).config["process"][
            "name"
        ]
        == "ODE"
    )
