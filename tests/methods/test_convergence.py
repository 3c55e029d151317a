"""The planar mixture of tests/oracles.py: E r, log Z and mode weights of the tilted law, and mutants.

K = 256, 64 runs, T = 50. The bounds (0.12, 0.10, 0.08) are about five standard errors plus the
discretisation, 0.045 in E r for the first-order solver and 0.02 for the second-order one.
"""

import pytest
import torch

import itscale
from itscale.methods import SMC, SVDD, BestOfN, ImportanceSampling, NestedSMC
from tests.methods.mutants import RunningMaxAtTheEnd, WeightsDropped, WrongSign
from tests.oracles import DIRECTION, TILT_1, mixture_2d


def linear(samples):
    return samples @ torch.tensor(DIRECTION, dtype=samples.dtype)


def run(method, **settings):
    size = 256 // getattr(method, "children", 1)
    return itscale.sample(
        mixture_2d(), reward=linear, method=method, particles=size, groups=64, steps=50, **settings
    )


def errors(result):
    found = result.expect(result.rewards).value
    mixture = mixture_2d()
    modes = [result.expect(lambda x, k=k: (mixture.mode_of(x) == k).double()).value for k in range(4)]
    off = sum(abs(a - b) for a, b in zip(modes, TILT_1.mode_weights, strict=True))
    log_z = float(result.log_evidence.exp().mean().log())
    return abs(found - TILT_1.expected_reward), abs(log_z - TILT_1.log_evidence), off


def is_right(result):
    reward, log_z, modes = errors(result)
    return reward <= 0.12 and log_z <= 0.10 and modes <= 0.08


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (ImportanceSampling(), {}),
        (SMC(), {}),
        (SMC(), {"solver": "sde-heun"}),
        (SMC(score_every=10), {}),
        (SMC(potential="max", score_every=10), {}),
        (NestedSMC(children=4), {}),
    ],
    ids=str,
)
def test_methods_with_a_target_converge_to_the_tilted_law(method, settings):
    result = run(method, **settings)
    assert is_right(result), errors(result)


@pytest.mark.parametrize(
    "mutant",
    [WeightsDropped(), WrongSign(), RunningMaxAtTheEnd(score_every=10)],
    ids=lambda m: type(m).__name__,
)
def test_mutants_are_refused_by_the_same_check(mutant):
    assert not is_right(run(mutant))


def test_increments_along_every_ancestry_sum_to_the_tilted_reward():
    seen = []
    for method in (SMC(), SMC(potential="max"), SMC(score_every=7), NestedSMC(children=3)):
        result = itscale.sample(
            mixture_2d(),
            reward=linear,
            method=method,
            particles=16,
            groups=4,
            steps=20,
            tilt=1.7,
            on_step=lambda step: seen.append(step.particles),
        )
        total = seen[-1].carry["log_potential"]
        torch.testing.assert_close(total, 1.7 * result.rewards, rtol=0, atol=1e-9)


def test_best_of_n_grows_with_n_and_argmax_selection_leaves_the_data():
    best = [
        float(
            itscale.sample(mixture_2d(), reward=linear, method=BestOfN(particles=n), groups=64, steps=20)
            .best()
            .rewards.mean()
        )
        for n in (1, 8, 64)
    ]
    assert best[0] < best[1] < best[2]
    density = []
    for children in (4, 32):
        method = SVDD(particles=1, children=children, selection="argmax")
        x = itscale.sample(mixture_2d(), reward=linear, method=method, groups=64, steps=50).samples
        density.append(float(mixture_2d().log_prob(x.reshape(-1, 2)).mean()))
    assert density[1] < density[0] < -5  # unguided samples have about -2.6
