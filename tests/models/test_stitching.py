"""Stitched models: who predicts when, what it costs, and how far the end moves."""

from __future__ import annotations

import functools

import pytest
import torch

import itscale
from itscale import grids, models
from itscale.errors import ConfigError
from itscale.interpolants import EDM, VP
from itscale.methods import SMC
from itscale.models import EpsilonScaled, GaussianMixture, disagreement, stitched
from itscale.process import ODE, ContinuousProcess
from tests.engine.setting import Network, total, wrapped
from tests.oracles import gm2, mixture_2d
from tests.solvers.drive import drive

PATH = EDM(sigma_max=80.0, sigma_min=0.02)
TIMES = grids.karras(PATH, 50, 0.0, kappa_min=0.02)


def single_gaussian(large: GaussianMixture) -> GaussianMixture:
    """The small model: one isotropic Gaussian with the mean and the total variance of the large one."""
    std = (large.cov().trace() / len(large.mean())).sqrt()
    return GaussianMixture(
        [1.0], large.mean()[None], std[None], interpolant=large.interpolant, dtype=torch.float64
    )


def unit(rows: int) -> torch.Tensor:
    return torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@functools.cache
def end(steps_of_small: int, solver: str) -> torch.Tensor:
    large = gm2(PATH)
    model = large
    if steps_of_small:
        switch = float(TIMES[steps_of_small - 1] + TIMES[steps_of_small]) / 2
        model = stitched(single_gaussian(large), large, switch=switch)
    return drive(ContinuousProcess.of(model, ODE()), solver, TIMES, 80 * unit(1000))


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m"])
def test_up_to_forty_per_cent_of_the_steps_the_small_model_is_not_missed(solver):
    """Distances to the all-large run: .0005 at .4 of the steps, .0029, .022, .13, .39 at .5 to .8."""
    gaps = [
        float((end(k, solver) - end(0, solver)).square().sum(1).mean().sqrt()) for k in (20, 25, 30, 35, 40)
    ]
    # std of the data is 1.5 and one seed of 1000 starts spreads these by 1/sqrt(2000), 2 %: within a half
    for found, known in zip(gaps, (0.0005, 0.0029, 0.022, 0.13, 0.39), strict=True):
        assert known / 1.5 < found < 1.5 * known


def test_the_pilot_finds_the_place():
    large = gm2(PATH)
    gap = disagreement(single_gaussian(large), large, unit(64), TIMES)
    first = int((gap > 1e-3).nonzero()[0])
    assert 25 <= first <= 30  # where the table above begins to rise
    assert (gap[: first - 1].diff() > 0).all()
    assert disagreement(large, large, unit(4), TIMES).max() == 0


def test_the_pilot_is_its_definition_along_the_large_models_way():
    large, times = gm2(PATH), TIMES[[30, 40, 50]]
    x, small = unit(3), single_gaussian(large)
    found = disagreement(small, large, x, times)
    for k in range(2):
        state = drive(ContinuousProcess.of(large, ODE()), "ddim", times, x * PATH.sigma(times[0]), until=k)
        gap = (small.denoised(state, times[k]) - large.denoised(state, times[k])).square().sum(1).mean()
        assert float(found[k]) == pytest.approx(float(gap) / float(PATH.kappa(times[k])) ** 2, rel=1e-9)


def test_each_time_has_its_model_and_the_switch_belongs_to_the_early_one():
    early, middle, late = (GaussianMixture([1.0], [[m, m]], [1.0]) for m in (-1.0, 0.0, 1.0))
    model = stitched(early, middle, late, switch=[0.25, 0.5])
    t = torch.tensor([0.1, 0.25, 0.2501, 0.5, 0.51, 1.0], dtype=torch.float64)
    assert model.route(t).tolist() == [0, 0, 1, 1, 2, 2]
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    mixed = model.predict(x, t, None)
    for i, part in enumerate((early, early, middle, middle, late, late)):
        assert torch.equal(mixed[i], part.predict(x[i : i + 1], t[i])[0])
        assert torch.equal(model.predict(x, t[i], None), part.predict(x, t[i]))
    assert model.shares(torch.linspace(0, 1, 9, dtype=torch.float64)) == (3 / 8, 2 / 8, 3 / 8)
    assert model.row_cost(torch.linspace(0, 1, 9), [1.0, 2.0, 4.0]) == pytest.approx((3 + 4 + 12) / 8)


def test_conditions_reach_the_rows_they_belong_to():
    networks = [Network(), Network()]
    model = stitched(*map(wrapped, networks), switch=0.5)
    x, t = torch.randn(4, *model.event_shape), torch.tensor([0.2, 0.8, 0.3, 0.9]).double()
    condition = torch.tensor([1.0, 2.0, 3.0, 4.0])
    together = model.predict(x, t, condition)
    for i in range(4):
        alone = wrapped(Network()).predict(x[i : i + 1], t[i : i + 1], condition[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)
    assert [n.rows for n in networks] == [2, 2]


def test_sampling_charges_each_look_once_whoever_makes_it():
    networks = [Network(), Network()]
    model = stitched(*map(wrapped, networks), switch=0.45)
    for guidance, rows in ((1.0, 1), (2.0, 2)):
        for network in networks:
            network.rows = 0
        result = itscale.sample(model, n=3, steps=10, condition=1.0, guidance=guidance)
        assert result.spent.nfe == [30]
        assert result.spent.model_rows == [30 * rows]
        assert [n.rows for n in networks] == [15 * rows, 15 * rows]  # levels 0 to 4 lie below 0.45


def test_methods_that_weight_take_it_unless_a_part_is_a_heuristic():
    plain = stitched(mixture_2d(), mixture_2d(), switch=0.4)
    reward = itscale.reward(lambda x: x.sum(1), modality="vector", name="sum")
    result = itscale.sample(plain, reward=reward, method=SMC(particles=4), steps=4)
    assert result.samples.isfinite().all()
    scaled = stitched(EpsilonScaled(wrapped(Network()), 1.01), wrapped(Network()), switch=0.4)
    for model in (scaled, scaled.given(1.0, 2.0)):
        with pytest.raises(ConfigError, match="SMC weights samples"):
            itscale.sample(model, reward=total, method=SMC(particles=4), steps=4)


def test_models_and_switches_that_do_not_fit_are_refused():
    model, network = mixture_2d(), Network()
    for switch in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"switch must be a time in \[0, 1\]"):
            stitched(model, model, switch=switch)
    with pytest.raises(ConfigError, match="several must increase"):
        stitched(model, model, model, switch=[0.5, 0.5])
    for parts, switch in (((model,), 0.5), ((model, model), [0.2, 0.4])):
        with pytest.raises(ConfigError, match="need"):
            stitched(*parts, switch=switch)
    others = {
        "interpolant": mixture_2d(VP()),
        "event_shape": GaussianMixture([1.0], [[0.0] * 3], [1.0], dtype=torch.float64),
        "predicts": models.wrap(lambda x, t: x, predicts="noise", interpolant="linear", event_shape=(2,)),
    }
    for name, other in others.items():
        with pytest.raises(ConfigError, match=f"agree in {name}"):
            stitched(model, other, switch=0.5)
    guided = wrapped(network).given(1.0, 3.0)
    with pytest.raises(ConfigError, match="Guidance belongs on the stitched model"):
        stitched(wrapped(network), guided, switch=0.5)
    with pytest.raises(ConfigError, match="costs must be 2 positive numbers"):
        stitched(model, model, switch=0.5).row_cost(torch.linspace(0, 1, 5), [1.0])
    assert network.rows == 0


def test_conditions_that_are_encoded_differently_are_refused():
    def network(x, t, c):
        return x

    def conditional(null):
        return models.wrap(
            network,
            predicts="velocity",
            interpolant="linear",
            event_shape=(2,),
            conditional=True,
            null_condition=null,
        )

    model = stitched(conditional(0.0), conditional(5.0), switch=0.5)
    assert model.encode([1.0]).tolist() == [1.0]
    with pytest.raises(ConfigError, match="encode conditions alike"):
        model.encode([None])
