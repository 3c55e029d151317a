"""What every path must satisfy. A new path joins by adding an instance to ``PATHS``."""

from __future__ import annotations

import torch
from torch import Tensor

from itscale.interpolants import (
    EDM,
    VE,
    VP,
    Cosine,
    Interpolant,
    Linear,
    OrnsteinUhlenbeck,
    Table,
    Trigonometric,
)

PATHS: list[Interpolant] = [
    Linear(),
    Trigonometric(),
    VP(),
    VP(beta_min=0.5, beta_max=0.5),  # constant rate: the quadratic for t(kappa) degenerates
    Cosine(),
    VE(sigma_min=0.02, sigma_max=30.0),
    EDM(),
    Table.linear(),
    Table.scaled_linear(),
    OrnsteinUhlenbeck(),
    Table((0.98, 0.9, 0.55, 0.3, 0.01)),
]


def path_id(path: Interpolant) -> str:
    return repr(path)


def interior_times(path: Interpolant, n: int = 41) -> Tensor:
    """Times from ``t_min`` to ``t_max`` that avoid both ends and the knots of tables."""
    share = (torch.arange(n, dtype=torch.float64) + 0.4142) / n
    return path.t_min + share * (path.t_max - path.t_min)


def derivative(function, t: Tensor) -> Tensor:
    t = t.clone().requires_grad_()
    # adding 0 * t gives constant functions a graph
    (gradient,) = torch.autograd.grad((function(t) + 0 * t).sum(), t)
    return gradient


def check_derivatives(path: Interpolant) -> None:
    # 1 - t is known to eps / 0.014 = 2e-14 at the last of these times, and a handful of operations follow
    # on either side. A wrong sign or factor is an error of order 1.
    t = interior_times(path)
    torch.testing.assert_close(path.d_alpha(t), derivative(path.alpha, t), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(path.d_sigma(t), derivative(path.sigma, t), rtol=1e-12, atol=1e-13)


def check_wronskian(path: Interpolant) -> None:
    t = interior_times(path)
    assert (path.wronskian(t) > 0).all()
    # d kappa / dt = (alpha sigma' - alpha' sigma) / alpha^2
    expected = -(path.alpha(t) ** 2) * derivative(path.kappa, t)
    torch.testing.assert_close(path.wronskian(t), expected, rtol=1e-12, atol=0)


def check_direction(path: Interpolant) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert (torch.diff(path.alpha(t)) >= 0).all()
    assert (torch.diff(path.sigma(t)) <= 0).all()
    assert (torch.diff(path.log_snr(t)) > 0).all()
    assert float(path.alpha(1.0)) == 1.0


def check_time_of_kappa(path: Interpolant) -> None:
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    t = torch.cat([zero, interior_times(path), one])
    back = path.t_of_kappa(path.kappa(t))
    assert ((back >= 0) & (back <= 1)).all()
    # kappa is known to a few eps, 1 - t to eps / 0.014 at the last interior time
    torch.testing.assert_close(back, t, rtol=0, atol=1e-13)


def check_shapes(path: Interpolant) -> None:
    for name in ("alpha", "sigma", "d_alpha", "d_sigma", "wronskian", "kappa", "log_snr"):
        function = getattr(path, name)
        rows = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        for t in (0.5, rows[1], rows, rows.float()):
            result = function(t)
            assert result.dtype == torch.float64
            assert result.shape == torch.as_tensor(t).shape
        torch.testing.assert_close(function(rows)[1], function(0.5), rtol=1e-15, atol=0)
    assert path.t_of_kappa(float(path.kappa(0.5))).shape == ()


CHECKS = [check_derivatives, check_wronskian, check_direction, check_time_of_kappa, check_shapes]
