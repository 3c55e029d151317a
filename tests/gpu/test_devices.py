"""Runs on a GPU beside the same runs on the CPU: ``ITSCALE_TEST_GPU=1 pytest -m gpu``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import itscale
from itscale.budget import Budget
from itscale.inbetweening import Inbetweening
from itscale.methods import (
    AFDPS,
    DAPS,
    DDNM,
    DDRM,
    DPS,
    FKC,
    FPS,
    LGDMC,
    RBF,
    SMC,
    SVDD,
    TMPD,
    ConjugateSMC,
    DiffPIR,
    PathSearch,
    PiGDM,
    PnPDM,
    ReNO,
    VerifierThreshold,
    ZeroOrderSearch,
)
from itscale.models import log_prob
from itscale.operators import GaussianLikelihood, Mask
from itscale.pools import Local
from itscale.runs.density import density
from tests.engine.setting import METHODS, Network, smooth, total, wrapped

pytestmark = pytest.mark.gpu

SPENT = ("nfe", "reward_calls", "decodes")
POSTERIOR = (DPS, PiGDM, TMPD, LGDMC, DDNM, DDRM, DiffPIR, DAPS, PnPDM, FPS, AFDPS, ConjugateSMC)
SOLVERS = ("heun", "unipc", "dpm++3m", "deis", "ipndm", "rk4", "lms", "2m-sde", "sde-heun", "edm-churn")


@pytest.fixture(autouse=True)
def exact_products():
    """Without the short products that GPUs round float32 to by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def network():
    return wrapped(Network((3, 4, 4)), (3, 4, 4))


def on_both(model: Any, **settings: Any) -> tuple[itscale.Result, itscale.Result]:
    """The run on the CPU, after one on the GPU took the network there."""
    there = itscale.sample(model, pool=Local(device="cuda"), **settings)
    here = itscale.sample(model, pool=Local(device="cpu"), **settings)
    assert all(getattr(here.spent, name) == getattr(there.spent, name) for name in SPENT)
    assert there.samples.device.type == "cpu"
    return here, there


def close(here: itscale.Result, there: itscale.Result, most: float = 1e-3) -> bool:
    return bool((here.samples - there.samples).abs().max() < most * here.samples.abs().max().clamp(min=1.0))


@pytest.mark.parametrize("name", METHODS)
def test_method_ends_where_it_ends_on_the_cpu(name, network):
    method = METHODS[name]
    settings: dict[str, Any] = {"steps": 6, "groups": 2, "seed": 1, "tilt": 0.5, "condition": 1.0}
    if isinstance(method, ZeroOrderSearch | PathSearch | ReNO):
        settings["process"] = itscale.ODE()
    if isinstance(method, RBF | VerifierThreshold):
        settings["budget"] = Budget(nfe=60)
    model = network
    if isinstance(method, FKC):
        model = network.given(1.0) ** 0.6 * network.given(2.0) ** 0.6
        settings["condition"] = None
    here, there = on_both(model, reward=smooth(total), method=method, **settings)
    assert close(here, there)
    if method.claim.evidence:
        assert torch.allclose(here.log_evidence, there.log_evidence, atol=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solver_ends_where_it_ends_on_the_cpu(solver):
    process = itscale.SDE() if itscale.solvers.get_solver(solver).is_stochastic else itscale.ODE()
    here, there = on_both(
        itscale.load("digits"), condition=3, n=8, steps=8, solver=solver, process=process, seed=4
    )
    assert close(here, there)


@pytest.mark.parametrize("kind", POSTERIOR)
def test_posterior_sampler_ends_where_it_ends_on_the_cpu(kind):
    keep = torch.zeros(1, 28, 28, dtype=torch.bool)
    keep[:, :14] = True
    likelihood = GaussianLikelihood(Mask(keep), 0.3 * torch.ones(14 * 28), 0.2)
    settings: dict[str, Any] = {"reward": likelihood, "method": kind(particles=2), "steps": 4, "condition": 3}
    here, there = on_both(itscale.load("digits"), groups=2, **settings)
    assert close(here, there)


@itscale.reward(name="count a", modality="sequence")
def count_a(texts):
    return torch.tensor([float(text.count("A")) for text in texts])


@pytest.mark.parametrize("method", [None, SMC(particles=8), SVDD(particles=2, children=3)])
def test_tokens_are_those_of_the_cpu(method):
    reward = None if method is None else count_a
    here, there = on_both(
        itscale.load("dna"), reward=reward, method=method, tilt=0.3, n=None if method else 16
    )
    assert torch.equal(here.samples, there.samples)


def test_states_may_stay_on_the_host(network):
    settings: dict[str, Any] = {"reward": total, "method": SMC(particles=8), "steps": 6, "condition": 1.0}
    a = itscale.sample(network, pool=Local(device="cuda"), **settings)
    b = itscale.sample(network, pool=Local(device="cuda", states="cpu", microbatch=4), **settings)
    assert close(a, b)


def test_group_has_the_same_bits_alone():
    pool = Local(device="cuda", bitwise=True, microbatch=8)
    settings: dict[str, Any] = {"reward": "ink", "method": SMC(particles=8), "steps": 6, "condition": 3}
    digits = itscale.load("digits")
    together = itscale.sample(digits, pool=pool, groups=2, **settings)
    alone = itscale.sample(digits, pool=pool, groups=[1], **settings)
    assert torch.equal(together.samples[1], alone.samples[0])


def test_what_is_computed_beside_runs_goes_where_its_states_are():
    digits = itscale.load("digits")
    states = itscale.sample(digits, condition=3, n=2, steps=4, pool=Local(device="cuda")).states[0]
    figures = density(digits, states, [3, 3])
    assert figures is not None
    assert figures.isfinite().all()
    values = [log_prob(digits, x, 3, steps=2).values.cpu() for x in (states, states.cuda(), states)]
    assert torch.allclose(values[0], values[1], rtol=1e-3)
    assert torch.equal(values[0], values[2])
    frames = torch.zeros(1, 28), torch.ones(1, 28)
    video = Inbetweening(steps=3, axis=1)
    here, there = (
        video(digits, *(f.to(d) for f in frames), first_condition=3, last_condition=3)
        for d in ("cpu", "cuda")
    )
    assert torch.allclose(here, there.cpu(), atol=1e-3)
