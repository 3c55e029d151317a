"""EVODiff: its figures, the battery of solvers, its independence of channels, and who refuses it."""

from __future__ import annotations

import pytest
import torch

import itscale
from itscale import models
from itscale.errors import ConfigError
from itscale.interpolants import EDM
from itscale.methods import SMC
from itscale.process import ODE, ContinuousProcess
from itscale.solvers import EVODiff
from tests.contracts.solvers import CHECKS, ode_errors
from tests.engine.setting import Network, total, wrapped
from tests.solvers.drive import drive, kappa_grid

STEPS = (5, 10, 20, 32, 64)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("solver", [EVODiff(), EVODiff(last="plain")], ids=repr)
def test_it_passes_the_battery_with_the_order_that_it_states(solver, check):
    check(solver)


@pytest.mark.parametrize(
    ("last", "table"),
    [("published", (0.17, 0.084, 0.085, 0.067, 0.065)), ("plain", (0.16, 0.094, 0.044, 0.028, 0.015))],
)
def test_errors_match_an_independent_implementation(last, table):
    """To two digits; as published the error stays at 0.07 for however many steps."""
    for error, tabulated in zip(ode_errors(EVODiff(last=last), STEPS), table, strict=True):
        assert error == pytest.approx(tabulated, rel=0.03)


def test_channels_of_an_image_have_weights_of_their_own():
    path = EDM(sigma_max=20.0, sigma_min=0.01)
    scale = torch.tensor([0.2, 1.0, 3.0])[:, None, None]

    def predict(x, t):
        kappa = float(path.kappa(t.flatten()[0]))
        return torch.tanh(x) * scale[: x.shape[1]] ** 2 / (scale[: x.shape[1]] ** 2 + kappa**2)

    x = 20 * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    ends = []
    for channels in (3, 1):
        model = models.wrap(predict, predicts="denoised", interpolant=path, event_shape=(channels, 5, 5))
        process = ContinuousProcess.of(model, ODE())
        ends.append(drive(process, EVODiff(), kappa_grid(process, 6, 20.0, 0.05), x[:, :channels]))
    torch.testing.assert_close(ends[0][:, :1], ends[1])


def test_methods_that_weight_and_bad_settings_are_refused_before_any_call():
    network = Network()
    with pytest.raises(ConfigError, match="SMC weights samples"):
        itscale.sample(
            wrapped(network), reward=total, method=SMC(particles=4), solver=EVODiff(), process=itscale.ODE()
        )
    assert network.rows == 0
    with pytest.raises(ConfigError, match="last must be 'published' or 'plain'"):
        EVODiff(last="ddim")
