"""Chains among noises keep the law of level 0, and what SMC makes of them has the tilted law."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch

import itscale
import itscale.preparation
from itscale.errors import BudgetError, ConfigError
from itscale.guides import Langevin
from itscale.methods import SMC, PsiSMC
from itscale.methods.metropolis import metropolis_move
from itscale.solvers.neighbour import Neighbour
from tests.engine.setting import CountingReward, Network, make_engine, wrapped
from tests.engine.setting import smooth as smooth_sum
from tests.methods.level_zero import START, STEPS, TILT, Late, bend, draws, first, smooth, truth
from tests.methods.mutants import Tampered
from tests.oracles import mixture_1d
from tests.solvers.drive import affine_law, gaussian

Z = 4.89  # two-sided level 1e-6
EXACT = truth(mixture_1d(), bend)
COSINE = 0.7


def chains_at(states, model=None, reward=bend, tilt=TILT, gradient=True):
    """An engine, and particles of one group at the given states of level 0, looked at and scored."""
    engine = make_engine(
        model or mixture_1d(),
        smooth(reward),
        groups=1,
        steps=STEPS,
        tilt=tilt,
        process=itscale.SDE(),
        solver="ancestral",
        grid=Late(),
    )
    engine.initial = (states / (1 - START)).reshape(1, -1, 1)
    p = engine.score(engine.look(engine.start(len(states)), gradient=gradient))
    return engine, p


def move(engine, p, count, gradient=True):
    guide = Langevin(engine.tilt, COSINE) if gradient else None
    for _ in range(count):
        p = metropolis_move(engine, p, Neighbour(COSINE), guide)
    return p


def drifts(tamper=lambda engine: engine, gradient=True):
    """Changes of moments of exact draws over four moves, in standard errors: the draws' own errors cancel."""
    start = draws(EXACT, 100_000)
    engine, p = chains_at(start, gradient=gradient)
    end = move(tamper(engine), p, 4, gradient).rows.x[:, 0]
    found = []
    for moment in (1, 2, 3):
        change = end**moment - start**moment
        found.append(float(change.mean() / change.std()) * math.sqrt(len(change)))
    return found


@pytest.mark.parametrize("gradient", [True, False], ids=["pcnl", "pcn"])
def test_chains_that_start_in_the_tilted_law_of_the_noise_stay_in_it(gradient):
    assert max(abs(z) for z in drifts(gradient=gradient)) < Z


def without_the_way_back(engine):
    return Tampered(engine, log_preference=lambda engine, p, *_: torch.zeros_like(p.value))


def without_the_way_there(engine):
    def mutate(engine, p, kernel, guide):
        return replace(engine.mutate(p, kernel, guide), log_ratio=p.log_ratio)

    return Tampered(engine, mutate=mutate)


def without_gradient_terms(engine):
    return without_the_way_back(without_the_way_there(engine))


def without_the_value(engine):
    return Tampered(engine, accept=lambda engine, p, q, ratio: engine.accept(p, q, ratio - q.value + p.value))


def with_the_scale_forgotten(engine):
    """The way back is judged by another shift than the one that moves are made with."""

    def log_preference(engine, p, q, kernel, guide):
        return engine.log_preference(p, q, kernel, replace(guide, strength=guide.strength / (1 - START)))

    return Tampered(engine, log_preference=log_preference)


@pytest.mark.parametrize(
    "fault",
    [
        without_the_way_back,
        without_the_way_there,
        without_gradient_terms,
        without_the_value,
        with_the_scale_forgotten,
        lambda engine: Tampered(engine, accept=lambda e, p, q, ratio: e.accept(p, q, ratio.abs())),
    ],
)
def test_chains_with_a_fault_leave_it(fault):
    assert max(abs(z) for z in drifts(fault)) > Z


def test_for_an_affine_value_every_move_is_accepted_and_its_law_is_known():
    """The target is N(a, s^2), a move is ``a + c (x - a) + s sqrt(1 - c^2) z`` and needs no correction."""
    s = 1 - START
    engine, p = chains_at(torch.zeros(20_000, dtype=torch.float64), gaussian(0.3, 0.8), first)
    slope = START * 0.8**2 / (START**2 * 0.8**2 + s**2)  # of the denoised sample
    shift = s**2 * TILT * slope
    for made in (1, 2, 3):
        p = move(engine, p, 1)
        x = p.rows.x[:, 0]
        variance = s**2 * (1 - COSINE ** (2 * made))
        error = math.sqrt(variance / len(x))
        assert abs(float(x.mean()) - shift * (1 - COSINE**made)) < Z * error
        assert abs(float(x.var()) / variance - 1) < Z * math.sqrt(2 / len(x))
    assert engine.notes["moves tried"] == 60_000
    assert engine.notes["moves accepted"] >= 59_990  # a ratio of 1 to the rounding of float32 noises


def test_acceptance_does_not_fall_as_states_get_larger():
    """What a move ends in is judged by noises and shifts: 2999 coordinates without reward change nothing."""

    def share(dimension):
        means = torch.zeros(2, dimension)
        means[:, 0] = torch.tensor([-1.0, 1.0])
        model = itscale.models.GaussianMixture([0.5, 0.5], means, [0.5, 0.5])
        unit = torch.randn(1, 500, dimension, generator=torch.Generator().manual_seed(0))
        engine = make_engine(
            model, smooth(bend), groups=1, steps=STEPS, tilt=3 * TILT, process=itscale.SDE(), grid=Late()
        )
        engine.initial = unit
        move(engine, engine.look(engine.start(500), gradient=True), 8)
        return engine.notes["moves accepted"] / engine.notes["moves tried"]

    few, many = share(1), share(3000)
    assert 0.3 < few < 0.95
    assert abs(few - many) < Z * math.sqrt(2 * 0.25 / 500)  # as if all moves of a chain were one


def run(method, groups=1000, model=None, reward=bend, **settings):
    return itscale.sample(
        model or mixture_1d(),
        reward=smooth(reward),
        method=method,
        steps=STEPS,
        tilt=TILT,
        groups=groups,
        seed=5,
        process=itscale.SDE(),
        solver="ancestral",
        grid=Late(),
        **settings,
    )


@pytest.mark.parametrize(
    "method",
    [
        PsiSMC(particles=16, burn_in=1),
        PsiSMC(particles=16, chains=4, burn_in=2, every=2, ess_threshold=1.0),
        PsiSMC(particles=16, burn_in=2, proposal="pcn", ess_threshold=0.0),
        PsiSMC(particles=16, burn_in=2, guide="network", cap=1.0),
    ],
    ids=["short", "few chains", "no gradient", "pushed"],
)
def test_chains_that_keep_their_weights_are_right_at_any_length(method):
    """``Z-hat`` and ``Z-hat`` times a weighted mean are unbiased; judged by 1000 runs of few particles."""
    result = run(method)
    evidence = (result.log_evidence - EXACT.log_z).exp()
    rewards = result.expect(result.rewards).per_group - EXACT.expected_reward
    for estimate, answer in ((evidence, 1.0), (evidence * rewards, 0.0)):
        assert abs(float(estimate.mean()) - answer) <= Z * float(estimate.std()) / math.sqrt(1000)


def bias(method, particles=256, groups=100):
    """Of the expected reward, in standard errors, where few particles are no excuse."""
    result = run(replace(method, particles=particles), groups)
    assert result.log_evidence.isnan().all() == (method.claim.evidence is None)
    found = result.expect(result.rewards)
    return (found.value - EXACT.expected_reward) / found.standard_error


PLAIN = PsiSMC(start="plain", burn_in=25, cosine=0.6)


@pytest.mark.parametrize("chains", [None, 32])
def test_as_published_the_law_is_right_once_chains_have_forgotten_their_start(chains):
    assert abs(bias(replace(PLAIN, chains=chains))) < Z


def test_as_published_the_law_is_wrong_before():
    assert abs(bias(replace(PLAIN, burn_in=1, cosine=0.99))) > 2 * Z


@dataclass(frozen=True, kw_only=True)
class WeightedTwice(PsiSMC):
    """Chains arrive in proportion to exp(v_0) and are weighted by it once more."""

    def _particles(self, engine, state):
        done = super()._particles(engine, state)
        p = done.particles
        return replace(done, particles=replace(p, log_weights=p.log_weights + p.value))


def test_a_value_that_counts_twice_is_found():
    assert abs(bias(WeightedTwice(start="plain", burn_in=25, cosine=0.6))) > 2 * Z


def test_it_needs_fewer_particles_than_smc_where_the_noise_decides():
    """A tilt that few noises of level 0 survive: SMC goes on with copies of them, chains with new ones."""

    def spread(method):
        result = itscale.sample(
            gaussian(0.0, 1.0),
            reward=smooth(first),
            method=method,
            steps=8,
            tilt=5.0,
            groups=200,
            process=itscale.SDE(diffusion=0.1),
            solver="euler-maruyama",
            grid=Late(0.6),
        )
        return float(result.expect(result.rewards).per_group.std())

    assert spread(PsiSMC(particles=16)) < 0.7 * spread(SMC(particles=16))


def test_costs_are_what_is_written_and_states_of_chains_are_apart():
    network, reward = Network(), CountingReward()
    method = PsiSMC(particles=12, chains=3, burn_in=4, every=2)
    result = itscale.sample(
        wrapped(network), reward=smooth_sum(reward), method=method, steps=6, groups=2, condition=1.0
    )
    looks = 3 * (1 + 4 + 3 * 2)
    assert result.spent.nfe == result.spent.reward_calls == [looks + 12 * 5] * 2
    assert result.spent.backward_rows == network.backward == 2 * looks
    assert result.notes["moves tried"] == 2 * 3 * (4 + 3 * 2)
    assert result.particles == 12
    plain = itscale.sample(
        wrapped(Network()), reward=CountingReward(), method=method, steps=6, groups=2, condition=1.0
    )
    assert plain.spent.backward_rows == 0  # a reward without a gradient is followed without one
    assert plain.spent.nfe == result.spent.nfe


def test_a_run_that_ends_among_the_noises_hands_over_the_chains():
    method = PsiSMC(particles=8, chains=4)
    result = run(method, 2, on_step=lambda step: step.nfe < 4 * 3)
    assert result.truncated
    assert result.claim == {"target": None, "evidence": None}
    assert result.samples.shape == (2, 4, 1)
    assert result.rewards.isfinite().all()


def test_given_noises_are_where_chains_begin():
    initial = torch.full((1, 8, 1), 3.0, dtype=torch.float64)
    still = PsiSMC(particles=8, chains=4, burn_in=1, cosine=0.999999, proposal="pcn")
    begun = []
    run(still, 1, initial=initial, on_step=lambda step: begun.append(step.particles.rows.x))
    assert [len(x) for x in itertools.islice(begun, 3)] == [4, 8, 8]
    torch.testing.assert_close(begun[0], torch.full((4, 1), 3.0 * (1 - START)).double(), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"particles": 0}, "particles must be"),
        ({"particles": 10, "chains": 4}, "particles=10 is no multiple of chains=4"),
        ({"burn_in": 0}, "burn_in must be a whole number >= 1"),
        ({"every": 0}, "every must be"),
        ({"cosine": 1.0}, r"cosine must be in \[0, 1\)"),
        ({"proposal": "mala"}, "proposal must be one of auto, pcnl, pcn, got 'mala'"),
        ({"start": "cold"}, "start must be one of weighted, plain"),
        ({"guide": "denoised"}, "guide must be one of none, network"),
        ({"guide": "network", "proposal": "pcn"}, "use proposal='pcnl', or guide='none'"),
        ({"cap": 0.0}, "cap must be > 0"),
        ({"scheme": "sytematic"}, "Did you mean"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        PsiSMC(**setting)


def test_runs_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="needs the reward's gradient"):
        itscale.sample(gaussian(0, 1), reward=first, method=PsiSMC(proposal="pcnl"), steps=4)
    heavy = itscale.ODE(prior=itscale.process.StudentT(8.0))
    with pytest.raises(ConfigError, match="moves among normal noises, and the process starts from StudentT"):
        itscale.sample(gaussian(0, 1), reward=first, method=PsiSMC(), process=heavy, steps=4)
    with pytest.raises(BudgetError, match="lower burn_in or steps"):
        run(PsiSMC(), 1, budget=itscale.Budget(nfe=10))


def test_the_answers_of_these_tests_agree_with_a_closed_form():
    """Quadrature against coefficients read off an affine sampler."""
    model = gaussian(0.3, 0.8)
    setup = itscale.preparation.prepare(
        model, process=itscale.SDE(), solver="ancestral", steps=STEPS, grid=Late()
    )
    law = affine_law(setup.process, "ancestral", setup.times, 1 - START)
    found = truth(model, first)
    assert found.log_z == pytest.approx(TILT * law.mean + TILT**2 * law.variance / 2, abs=1e-6)
    assert found.expected_reward == pytest.approx(law.mean + TILT * law.variance, abs=1e-6)
