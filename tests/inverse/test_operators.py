"""Operators against their own algebra in float64, explicit matrices, and a library's operators."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.operators import (
    Bicubic,
    BlockAverage,
    Blur,
    Composed,
    Dense,
    Exposure,
    FourierMask,
    Function,
    LinearFunction,
    Mask,
    PhaseRetrieval,
    Projection,
    Quantise,
    SpectralOperator,
    from_deepinv,
)

SHAPE = (1, 8, 8)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lines() -> Tensor:
    seen = torch.zeros(8, dtype=torch.bool)
    seen[[0, 1, 6]] = True
    return seen


LINEAR = [
    Mask(random(*SHAPE) > 0.3),
    BlockAverage(SHAPE, 2),
    BlockAverage((3, 6, 9), 3),
    Blur(random(3, 5).abs(), SHAPE),
    Blur(random(3, 3), (2, 7, 5)),
    FourierMask(lines(), SHAPE),
    Dense(random(10, 64), SHAPE),
    Bicubic(SHAPE, 2),
    Projection(SHAPE, 5),
    LinearFunction(lambda x: x.cumsum(-1)[..., ::2], SHAPE),
]
SPECTRAL = [op for op in LINEAR if isinstance(op, SpectralOperator)]


def name(operator) -> str:
    return f"{type(operator).__name__}{operator.event_shape}"


@pytest.mark.parametrize("operator", LINEAR, ids=name)
def test_adjoint_is_the_adjoint(operator):
    x = random(3, *operator.event_shape, seed=1)
    y = random(3, *operator.measurement_shape, seed=2)
    forward, back = operator(x) * y, x * operator.adjoint(y)
    torch.testing.assert_close(forward.flatten(1).sum(1), back.flatten(1).sum(1), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("operator", LINEAR, ids=name)
def test_pseudo_inverse_reproduces_measurements(operator):
    y = operator(random(2, *operator.event_shape, seed=3))
    # near-zero frequencies of a blur are left out on purpose; iterative inverses carry a ridge of 1e-10
    torch.testing.assert_close(operator(operator.pinv(y)), y, rtol=0, atol=1e-6 * float(y.abs().max()))


@pytest.mark.parametrize("operator", LINEAR, ids=name)
@pytest.mark.parametrize("noise", [0.3, torch.tensor([0.2, 0.5])], ids=["one", "per row"])
def test_gram_solve_solves(operator, noise):
    y = random(2, *operator.measurement_shape, seed=4)
    solved = operator.gram_solve(y, noise, 0.7)
    factor = torch.as_tensor(noise, dtype=torch.float64).reshape(-1, *(1,) * (y.ndim - 1))
    back = factor * solved + 0.7 * operator(operator.adjoint(solved))
    torch.testing.assert_close(back, y, rtol=0, atol=1e-7 if isinstance(noise, Tensor) else 1e-8)


@pytest.mark.parametrize("operator", LINEAR, ids=name)
def test_rows_do_not_depend_on_one_another(operator):
    x = random(4, *operator.event_shape, seed=5)
    torch.testing.assert_close(operator(x)[2:3], operator(x[2:3]), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("operator", SPECTRAL, ids=name)
def test_decomposition_is_orthogonal_and_makes_the_operator(operator):
    x, y = random(3, *operator.event_shape, seed=6), random(3, *operator.measurement_shape, seed=7)
    v, u = operator.to_spectral(x), operator.measurement_to_spectral(y)
    torch.testing.assert_close(operator.from_spectral(v), x)
    torch.testing.assert_close(operator.measurement_from_spectral(u), y)
    torch.testing.assert_close(v.square().sum(1), x.flatten(1).square().sum(1))
    torch.testing.assert_close(u.square().sum(1), y.flatten(1).square().sum(1))
    made = operator.measurement_from_spectral(operator.singular_values * v[:, : operator.size])
    torch.testing.assert_close(operator(x), made)


@pytest.mark.parametrize("operator", LINEAR, ids=name)
def test_gain_is_the_root_mean_square_of_row_norms(operator):
    d = math.prod(operator.event_shape)
    matrix = operator(torch.eye(d, dtype=torch.float64).reshape(d, *operator.event_shape)).flatten(1)
    exact = float(matrix.square().sum(0).mean().sqrt())
    # a probe of 64 normals of m measurements is within 5 standard errors, some 1 / sqrt(32 m)
    tolerance = 1e-12 if isinstance(operator, SpectralOperator) else 5 / math.sqrt(32 * operator.size)
    assert operator.gain == pytest.approx(exact, rel=max(tolerance, 1e-9))


def test_a_block_average_has_singular_values_of_one_over_the_factor():
    operator = BlockAverage((1, 6, 6), 3)
    x = random(2, 1, 6, 6)
    torch.testing.assert_close(operator(x), torch.nn.functional.avg_pool2d(x, 3))
    assert operator.singular_values.tolist() == pytest.approx([1 / 3] * 4)


def test_a_blur_is_the_circular_convolution():
    kernel, x = random(3, 5), random(1, 1, 8, 8, seed=1)
    padded = torch.nn.functional.pad(x, (2, 2, 1, 1), mode="circular")
    direct = torch.nn.functional.conv2d(padded, kernel.flip(0, 1)[None, None])
    torch.testing.assert_close(Blur(kernel, SHAPE)(x), direct)


def test_phase_retrieval_does_not_see_reflections_and_signs():
    operator, x = PhaseRetrieval(SHAPE), random(2, *SHAPE)
    torch.testing.assert_close(operator(x), operator(-x))
    torch.testing.assert_close(operator(x), operator(x.flip(-1, -2)))
    assert operator.measurement_shape == (1, 16, 16)
    torch.testing.assert_close(operator(x).square().sum(), x.square().sum())  # Parseval


def test_an_exposure_clips_and_its_gradient_stops_there():
    x = torch.tensor([[0.2, 0.7]], requires_grad=True)
    out = Exposure((2,))(x)
    out.sum().backward()
    assert out.tolist() == [[pytest.approx(0.4), 1.0]]
    assert x.grad is not None
    assert x.grad.tolist() == [[2.0, 0.0]]


def test_quantised_values_are_the_middles_of_their_cells():
    q = Quantise((4,), bits=1)
    assert q(torch.tensor([[-1.0, 0.2, 0.6, 3.0]])).tolist() == [[0.25, 0.25, 0.75, 0.75]]


def test_composition_measures_what_a_decoder_makes():
    half = Composed(BlockAverage((1, 4, 4), 2), lambda z: z.reshape(-1, 1, 4, 4).tanh(), (16,))
    assert half.measurement_shape == (1, 2, 2)
    assert half.event_shape == (16,)
    with pytest.raises(ConfigError, match=r"maps \(5,\) to \(5,\).* takes \(1, 4, 4\)"):
        Composed(BlockAverage((1, 4, 4), 2), lambda z: z, (5,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mask(torch.zeros(3, dtype=torch.bool)), "nothing is measured"),
        (lambda: Mask(torch.ones(3)), "truth values"),
        (lambda: BlockAverage((1, 7, 8), 2), "divide the sides"),
        (lambda: Blur(torch.ones(2, 3), SHAPE), "two odd sides"),
        (lambda: FourierMask(torch.ones(5, dtype=torch.bool), SHAPE), "8 truth values"),
        (lambda: Dense(torch.ones(3, 5), SHAPE), "64 columns"),
        (lambda: LinearFunction(lambda x: x**2, (4,)), "not linear"),
        (lambda: Function(lambda x: x - x.mean(0), (4,)), "mixes samples"),
        (lambda: Function(lambda x: x.reshape(3, 9), (4,)), r"fails on samples \(2, 4\)"),
        (lambda: PhaseRetrieval(SHAPE, 0.5), "oversampling"),
        (lambda: Exposure((2,), low=1.0), "low < high"),
        (lambda: Quantise((2,), bits=0), "at least 1"),
    ],
)
def test_operators_that_cannot_work_say_why(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.slow
def test_operators_agree_with_those_of_the_library():
    """Same conventions: mask, circular blur, adjoints and pseudo-inverses, to float32 rounding."""
    physics = pytest.importorskip("deepinv.physics")
    x = random(2, *SHAPE).float()
    seen = random(*SHAPE, seed=3) > 0
    theirs = physics.Inpainting(img_size=SHAPE, mask=seen.float())
    mine = Mask(seen)
    torch.testing.assert_close(mine.pinv(mine(x)), theirs.A_dagger(theirs.A(x)), rtol=0, atol=1e-6)
    kernel = random(3, 3, seed=4).abs().float()
    blur = physics.BlurFFT(img_size=SHAPE, filter=kernel[None, None])
    ours = Blur(kernel, SHAPE)
    torch.testing.assert_close(ours(x), blur.A(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.adjoint(x), blur.A_adjoint(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pinv(ours(x)), blur.A_dagger(blur.A(x)), rtol=0, atol=1e-3)
    radon = physics.Tomography(angles=4, img_width=8, normalize=False)
    wrapped = from_deepinv(radon, SHAPE)
    y = wrapped(x)
    torch.testing.assert_close(y, radon.A(x), rtol=0, atol=1e-6)
    back = wrapped.adjoint(torch.ones_like(y))
    torch.testing.assert_close(
        (y * 1.0).flatten(1).sum(1), (x * back).flatten(1).sum(1), rtol=1e-3, atol=1e-3
    )
    with pytest.raises(ConfigError, match=r"one of deepinv.physics, got str"):
        from_deepinv("radon", SHAPE)
