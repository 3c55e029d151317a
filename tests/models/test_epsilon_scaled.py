"""Epsilon scaling: what it changes, what it leaves, and who refuses it."""

from __future__ import annotations

import math

import pytest
import torch

import itscale
from itscale import interpolants
from itscale.errors import ConfigError
from itscale.interpolants import KINDS
from itscale.methods import SMC, BestOfN
from itscale.models import EpsilonScaled, GaussianMixture
from itscale.process import ODE, ContinuousProcess, Evaluation
from tests.contracts.solvers import EDM_PATH, KAPPA_MAX, KAPPA_MIN
from tests.engine.setting import Network, total, wrapped
from tests.oracles import mixture_2d
from tests.solvers.drive import affine_law, gaussian, kappa_grid


class Predicting(GaussianMixture):
    kind = "velocity"

    @property
    def predicts(self):
        return self.kind

    def predict(self, x, t, condition=None):
        at = Evaluation(x, torch.as_tensor(t), "velocity", self.velocity(x, t), self.interpolant)
        return interpolants.raw_from(self.kind, at.denoised, at.noise, at.coefficients)


def predicting(kind: str):
    base = mixture_2d("vp")
    model = Predicting(base.weights, base.means, base.stds, interpolant="vp", dtype=torch.float64)
    object.__setattr__(model, "kind", kind)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_divided_and_the_state_still_adds_up(kind):
    plain, scaled = predicting(kind), EpsilonScaled(predicting(kind), 1.25)
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (torch.tensor(0.4).double(), torch.linspace(0.1, 0.9, 20).double()):
        before, after = (ContinuousProcess.of(m, ODE()).evaluate(x, t) for m in (plain, scaled))
        torch.testing.assert_close(after.noise, before.noise / 1.25, rtol=1e-9, atol=1e-9)
        c = after.coefficients
        alpha, sigma = (v.expand(20)[:, None] for v in (c.alpha, c.sigma))
        torch.testing.assert_close(alpha * after.denoised + sigma * after.noise, x, rtol=1e-9, atol=1e-9)


def test_a_scale_of_one_changes_no_bit_and_pure_noise_is_left_alone():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    model = mixture_2d()
    for t in (0.0, 0.5):
        assert torch.equal(EpsilonScaled(model, 1.0).predict(x, t, None), model.predict(x, t))
    assert torch.equal(EpsilonScaled(model, 1.2).predict(x, 0.0, None), model.predict(x, 0.0))
    rows = torch.tensor([0.0] * 10 + [0.5] * 10).double()
    mixed = EpsilonScaled(model, lambda t: 1 + 0.4 * t).predict(x, rows, None)
    assert torch.equal(mixed[:10], model.predict(x, rows)[:10])
    half = EpsilonScaled(model, 1.2).predict(x[10:], 0.5, None)
    torch.testing.assert_close(mixed[10:], half, rtol=1e-5, atol=1e-5)


def test_it_offsets_the_shrinkage_of_ddim():
    errors = []
    for model in (gaussian(interpolant=EDM_PATH), EpsilonScaled(gaussian(interpolant=EDM_PATH), 1.005)):
        process = ContinuousProcess.of(model, ODE())
        times = kappa_grid(process, 20, KAPPA_MAX, KAPPA_MIN)
        law = affine_law(process, "ddim", times, math.hypot(KAPPA_MAX, 0.5), 20)
        errors.append(law.variance / (0.25 + KAPPA_MIN**2) - 1)
    assert errors[0] < errors[1] < 0


def test_methods_that_weight_refuse_it_and_searches_do_not():
    network = Network()
    model = EpsilonScaled(wrapped(network), 1.01)
    for wrapped_model in (model, model.given(1.0, 2.0)):
        with pytest.raises(ConfigError, match=r"SMC weights samples for an exact target.*heuristic"):
            itscale.sample(wrapped_model, reward=total, method=SMC(particles=4), steps=4)
    assert network.rows == 0
    result = itscale.sample(model, reward=total, method=BestOfN(particles=4), steps=4, condition=1.0)
    assert result.samples.isfinite().all()


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_scales_must_be_positive_and_finite(scale):
    with pytest.raises(ConfigError, match="scale must be positive"):
        EpsilonScaled(mixture_2d(), scale)
