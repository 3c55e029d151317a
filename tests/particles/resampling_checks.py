"""Checks that take an implementation, so that ``test_mutants`` can run them on wrong ones.

Thresholds: seeds are fixed, but every statistical check would hold for any seed. The level is 1e-6 for a
family of statistics, two-sided: with ``m`` of them a z-score fails beyond ``Phi^-1(1 - 1e-6/(2m))``
(4.89 for one), widened by the first Edgeworth term where the mean of a skewed sample is compared.
"""

from __future__ import annotations

import math

import torch
from scipy.stats import norm
from torch import Tensor

from itscale.particles import SCHEMES, Scheme, get_scheme

LEVEL = 1e-6


def generator(*seed: int) -> torch.Generator:
    number = 0
    for s in seed:
        number = 1_000_003 * number + s
    return torch.Generator().manual_seed(number)


def uniforms(scheme: Scheme, rows: int, n: int, m: int, *seed: int) -> Tensor:
    return torch.rand(rows, scheme.uniforms(n, m), dtype=torch.float64, generator=generator(*seed))


def assert_mean(samples: Tensor, expected: Tensor | float, what: str, variance: Tensor | None = None) -> None:
    """Compare the mean over dimension 0 with its expectation.

    Args:
        variance: a lower bound of the true variance, for samples that may all be equal by chance.
    """
    samples = samples.to(torch.float64).reshape(len(samples), -1)
    expected = torch.as_tensor(expected, dtype=torch.float64).reshape(-1)
    r, m = samples.shape
    mean, spread = samples.mean(0), samples.var(0)
    if variance is not None:
        spread = torch.maximum(spread, variance.reshape(-1))
    z = norm.isf(LEVEL / (2 * m))
    skew = ((samples - mean) ** 3).mean(0).abs() / spread.clamp_min(1e-20) ** 1.5
    limit = z + skew * (z**2 - 1.0) / (6.0 * math.sqrt(r))
    allowed = limit * (spread / r).sqrt() + 1e-9 * (1.0 + expected.abs())
    excess = (mean - expected).abs() / allowed
    worst = int(excess.argmax())
    assert excess[worst] <= 1.0, (
        f"{what}: mean {mean[worst]:.6g}, expected {float(expected.expand(m)[worst]):.6g}, "
        f"{float(limit[worst] * excess[worst]):.1f} standard errors away (entry {worst})"
    )


def families(n: int, seed: int = 0) -> dict[str, Tensor]:
    """Six kinds of normalised weights ``(n,)``."""
    normal = torch.randn(n, dtype=torch.float64, generator=generator(n, seed))
    i = torch.arange(n, dtype=torch.float64)
    zeros_at_ends = normal.exp()
    if n > 2:
        zeros_at_ends[: max(1, n // 4)] = 0.0
        zeros_at_ends[-max(1, n // 4) :] = 0.0
    two = torch.full((n,), 1e-3, dtype=torch.float64)
    two[n // 3] = two[-1] = 1e3
    raw = {
        "uniform": torch.ones(n, dtype=torch.float64),
        "one-hot": (i == n // 2).to(torch.float64),
        "log-normal": normal.exp(),
        "geometric": 0.7**i,
        "zeros at both ends": zeros_at_ends,
        "two huge": two,
    }
    return {name: w / w.sum() for name, w in raw.items()}


def fractions(w: Tensor, m: int) -> Tensor:
    x = m * w
    return x - torch.floor(x * (1 + 1e-12))


def trace_of_covariance(name: str, w: Tensor, m: int) -> float:
    """Sum of the variances of the counts, in closed form."""
    f = fractions(w, m).clamp_min(0)
    if name in ("systematic", "ssp"):  # a constant plus a Bernoulli variable
        return float((f * (1 - f)).sum())
    if name == "multinomial":
        return float(m * (1 - w.square().sum()))
    if name == "residual":
        r = float(f.sum().round())
        return 0.0 if r == 0 else float(r * (1 - (f / r).square().sum()))
    if name == "killing":
        p = w / w.max()
        b = p * (1 - p)
        n_killed, var_killed = (1 - p).sum(), b.sum()
        return float((b + n_killed * w * (1 - w) + var_killed * w**2 - 2 * b * w).sum())
    assert name == "stratified"
    edges = torch.cat([torch.zeros(1, dtype=torch.float64), m * w.cumsum(0)])
    j = torch.arange(m, dtype=torch.float64)[:, None]
    q = (torch.minimum(edges[1:], j + 1) - torch.maximum(edges[:-1], j)).clamp_min(0)
    return float((q * (1 - q)).sum())


def check_contract(counts: Tensor, w: Tensor, m: int, name: str) -> None:
    """Everything about counts that holds without exception. ``w`` is ``(n,)`` or ``(rows, n)``."""
    assert counts.dtype == torch.int64
    assert (counts >= 0).all(), f"{name}: negative count"
    assert (counts.sum(-1) == m).all(), f"{name}: counts do not sum to {m}"
    assert (counts.masked_select((w == 0).expand_as(counts)) == 0).all(), f"{name}: child of a zero weight"
    if name in ("systematic", "ssp"):
        off = (counts - m * w / w.sum(-1, keepdim=True)).abs()
        assert (off < 1 + 1e-9 * m).all(), f"{name}: a count is {off.max():.3f} from m*W"
    if name == "residual":
        floor = torch.floor(m * w / w.sum(-1, keepdim=True) * (1 - 1e-12))
        assert (counts >= floor).all(), f"{name}: fewer children than floor(m*W)"


def check_counts(scheme: Scheme, n: int, m: int, rows: int, only: str | None = None) -> None:
    """Sums, zeros, means, total variance and row independence of a scheme for all weight families."""
    for k, (family, w) in enumerate(families(n).items()):
        if only not in (None, family):
            continue
        what = f"{scheme.name} {n}->{m}, {family} weights"
        u = uniforms(scheme, rows, n, m, n, m, k)
        counts = scheme(w.expand(rows, n), m, u)
        check_contract(counts, w, m, scheme.name)

        # Any integer variable with mean m*W has at least the variance f(1-f).
        floor = fractions(w, m).clamp_min(0)
        floor = floor * (1 - floor)
        frequent = rows * floor >= 100
        deviation = counts - m * w
        if frequent.any():
            assert_mean(deviation[:, frequent], 0.0, f"{what}: counts", floor[frequent])
        if not frequent.all() and rows * floor[~frequent].sum() >= 100:
            assert_mean(deviation[:, ~frequent].sum(-1), 0.0, f"{what}: counts of rare particles")

        trace = trace_of_covariance(scheme.name, w, m)
        if trace < 1e-9:
            assert deviation.abs().max() < 1e-6, f"{what}: random where nothing is undecided"
        elif rows * trace >= 100:
            rare = torch.tensor(1e-5)  # particles too light to appear among the rows hide in this
            assert_mean(deviation.square().sum(-1), trace, f"{what}: trace of the covariance", rare)

        score = (deviation * torch.linspace(-1, 1, n, dtype=torch.float64)).sum(-1)
        assert_mean(score[0::2] * score[1::2], 0.0, f"{what}: product of neighbouring rows")


def check_equal_weights(scheme: Scheme, sizes: range | list[int], rows: int) -> None:
    """Equal weights keep every particle exactly once, although ``n * (1/n) < 1`` for many ``n``."""
    for n in sizes:
        w = torch.full((1, n), 1.0 / n, dtype=torch.float64).expand(rows, n)
        counts = scheme(w, n, uniforms(scheme, rows, n, n, n, 77))
        assert (counts == 1).all(), f"{scheme.name}: {n} equal weights are not kept once each"


def extreme_weights(n: int) -> Tensor:
    """Weights ``(6, n)`` whose float sums miss one, with denormals, and zeros at either end."""
    w = torch.stack(list(families(n, 5).values()))
    w[0] *= 1 + 1e-15
    w[2] *= 1 - 1e-15
    w[3, n // 2 :] = 5e-324
    w[5] = w[5] * 1e-300
    return w


def check_extreme_inputs(scheme: Scheme, n: int) -> None:
    """The contract holds at the ends of the uniforms' range and for ill-conditioned weights."""
    w = extreme_weights(n)
    last = 1 - 2.0**-53
    for m in {n, 3 * n, max(1, n // 2)} if scheme.resizes else {n}:
        k = scheme.uniforms(n, m)
        pattern = last * torch.randint(0, 2, (len(w), k), generator=generator(n, m)).double()
        for u in (torch.zeros(len(w), k), torch.full((len(w), k), last, dtype=torch.float64), pattern):
            # At u = last, systematic may round a boundary either way: check only what is always exact.
            name = scheme.name if scheme.name == "residual" else ""
            check_contract(scheme(w, m, u.to(torch.float64)), w, m, name)


def check_ancestors_in_place(ancestors_in_place, seed: int = 0) -> None:
    """Compare with the definition, written as a loop."""
    for n in (1, 2, 3, 8, 37, 64):
        w = torch.softmax(2 * torch.randn(30, n, dtype=torch.float64, generator=generator(n, seed)), -1)
        scheme = SCHEMES["multinomial"]
        counts = scheme(w, n, uniforms(scheme, 30, n, n, n, seed))
        for row, got in zip(counts.tolist(), ancestors_in_place(counts).tolist(), strict=True):
            surplus = [i for i, c in enumerate(row) for _ in range(c - 1)]
            expected = [i if c else surplus.pop(0) for i, c in enumerate(row)]
            assert got == expected, f"counts {row}: ancestors {got}, expected {expected}"


def check_ancestors_sorted(ancestors_sorted) -> None:
    for n, m in ((1, 1), (5, 5), (8, 3), (7, 21), (64, 64)):
        w = torch.softmax(2 * torch.randn(20, n, dtype=torch.float64, generator=generator(n, m)), -1)
        scheme = SCHEMES["residual"]
        counts = scheme(w, m, uniforms(scheme, 20, n, m, n, m))
        for row, got in zip(counts.tolist(), ancestors_sorted(counts, m).tolist(), strict=True):
            assert got == [i for i, c in enumerate(row) for _ in range(c)]


def check_resample_is_unbiased(resample, name: str, n: int, m: int, aux: float | None, rows: int) -> None:
    """Check the weight that each particle, and all together, hand on through resampling."""
    g = generator(n, m, 3)
    lw = torch.randn(n, dtype=torch.float64, generator=g)
    lw[n // 2] = -math.inf
    u = uniforms(get_scheme(name), rows, n, m, n, m, 4)
    log_aux = None if aux is None else (aux * lw).expand(rows, n)
    index, new, increment = resample(lw.expand(rows, n), u, name, m=m, aux=log_aux)
    mass = torch.exp(new + increment[:, None]) / m
    at_particle = torch.zeros(rows, n, dtype=torch.float64).scatter_add_(-1, index, mass)
    assert_mean(at_particle, lw.exp() / n, f"{name} {n}->{m}, aux {aux}: weight carried by each particle")
    assert_mean(mass.sum(-1), float(lw.exp().mean()), f"{name} {n}->{m}, aux {aux}: total weight")


def check_sanitize(sanitize) -> None:
    nan, inf = math.nan, math.inf
    clean, n_nan, n_pos_inf = sanitize(torch.tensor([[0.0, nan, 1.0, inf], [-inf, nan, nan, 2.0]]))
    assert clean.tolist() == [[0.0, -inf, 1.0, -inf], [-inf, -inf, -inf, 2.0]], (
        "NaN and +inf are not zero weights"
    )
    assert n_nan.tolist() == [1, 2]
    assert n_pos_inf.tolist() == [1, 0]
    assert clean.dtype == torch.float64


def check_cumulative_counts_are_exact(systematic, n: int) -> None:
    """Compare with an extended-precision reference; float64 may differ at a boundary once in 10^4 calls."""
    import numpy as np

    lw = torch.randn(n, dtype=torch.float64, generator=generator(n, 9))
    w = torch.softmax(lw, -1)
    exact = np.cumsum(w.numpy().astype(np.longdouble))
    exact = np.ceil(n * (exact / exact[-1]) - np.longdouble(0.37)).astype(np.int64)
    counts = systematic(w[None], n, torch.tensor([[0.37]], dtype=torch.float64))
    wrong = (counts.cumsum(-1)[0].numpy() != exact).sum()
    assert wrong <= 1, f"{wrong} of {n} cumulative counts differ from extended precision"
