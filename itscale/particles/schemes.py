"""Resampling schemes: how many children each particle has, given its weight and uniforms.

A scheme maps weights ``(g, n)``, the number of children ``m`` and uniforms ``(g, k)`` to counts ``(g, n)``
with ``sum = m`` in every row, mean ``m * W``, and zero wherever the weight is zero. Most are written with
the cumulative weights ``C`` and the cumulative counts ``K_i``, the children of particles ``0..i``. Where
``C_i = 1``, ``K_i = m`` is forced. That removes both classical round-off faults: an index past the end, and
a child for a trailing particle of weight zero.

Rows may have any scale, must have a positive sum, and never influence each other. (The counts of a row of
zeros mean nothing and do not even add up; ``resample`` replaces them.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale.errors import ConfigError, unknown_name

Weights = Float64[Tensor, "g n"]
Uniforms = Float64[Tensor, "g k"]
Counts = Int64[Tensor, "g n"]

SMALLEST = 5e-324  # keeps 0/0 away in rows that are discarded anyway


def cumulative(weights: Weights) -> Weights:
    """Cumulative weights divided by their own last entry: non-decreasing, flat where a weight is zero."""
    c = weights.cumsum(-1)
    if c.device.type != "cpu":
        # A parallel scan rounds every prefix by itself, so it can dip, or step up at a zero weight.
        c = torch.where(weights > 0, c, 0.0).cummax(-1).values
    return c.div_(c[:, -1:].clamp_min(SMALLEST))


def _differences(k: Tensor) -> Counts:
    k = k.to(torch.int64)
    counts = k.clone()
    counts[:, 1:].sub_(k[:, :-1])
    return counts


def systematic(weights: Weights, m: int, u: Uniforms) -> Counts:
    """One uniform: counts are ``m W`` rounded down or up. Not ordered against the other schemes."""
    c = cumulative(weights)
    return _differences(torch.where(c == 1.0, float(m), (m * c).sub_(u).ceil_()))


def stratified(weights: Weights, m: int, u: Uniforms) -> Counts:
    """One uniform in each of ``m`` strata: child ``j`` sits at ``(j + u_j)/m``."""
    c = cumulative(weights)
    x = m * c
    whole = x.floor().clamp_max(m - 1)
    # Only the stratum that C_i cuts is undecided, so a gather does the work of a search.
    k = whole + (u.gather(-1, whole.to(torch.int64)) < x - whole)
    return _differences(torch.where(c == 1.0, float(m), k))


def _independent(weights: Weights, draws: int | Tensor, u: Uniforms) -> Counts:
    """Counts of ``draws`` independent draws; ``draws`` may differ between rows, below the width of ``u``."""
    # Normalised exponential spacings are sorted uniforms. Dividing by the sum of draws + 1 of them leaves
    # the later ones at 1 or above, beyond every C_i.
    z = torch.log1p(-u).neg_().cumsum_(-1)
    total = z[:, draws : draws + 1] if isinstance(draws, int) else z.gather(-1, draws)
    c = cumulative(weights)
    k = torch.searchsorted(z / total.clamp_min(SMALLEST), c).clamp(max=draws)
    return _differences(torch.where(c == 1.0, draws, k))


def multinomial(weights: Weights, m: int, u: Uniforms) -> Counts:
    """``m`` independent draws. Most variance; needed by conditional SMC and single-run variances."""
    return _independent(weights, m, u)


def _whole_and_fraction(weights: Weights, m: int) -> tuple[Tensor, Tensor]:
    x = m * (weights / weights.sum(-1, keepdim=True).clamp_min(SMALLEST))
    # Without the snap, m * (1/m) < 1 in floating point for 505 of the values m <= 4096, and equal weights
    # would be drawn at random. A relative snap stays below m = 10^12 children in all.
    whole = torch.floor(x * (1.0 + 1e-12))
    # What the snap left negative, and denormals, whose products with a uniform are not exact, become 0.
    return whole, F.threshold(x - whole, 1e-300, 0.0)


def residual(weights: Weights, m: int, u: Uniforms) -> Counts:
    """``floor(m W)`` children each, the remainder independently from the fractional parts."""
    whole, fraction = _whole_and_fraction(weights, m)
    whole = whole.to(torch.int64)
    return whole + _independent(fraction, m - whole.sum(-1, keepdim=True), u)


def round_fractions(x: Weights, u: Uniforms) -> Counts:
    """Round fractions in [0, 1) to 0 or 1, keeping each mean and the (integer) sum: SSP as a tournament.

    Each pair decides one of its two members and passes on the sum, or the sum less one, under the name of
    the other; the last one standing is 0 or 1 up to rounding. ``log2(n)`` levels of elementwise work. The
    pairing must stay a tournament on a fixed order: then the counts are negatively associated.

    Args:
        x: fractions.
        u: ``tournament_size(n)`` uniforms per row.

    Reference:
        Brown Kramer, Cutler and Radcliffe (2011), "Negative Dependence and Srinivasan's Sampling Process";
        Gerber, Chopin and Whiteley (2019), "Negative association, ordering and convergence of resampling
        methods", arXiv:1707.01845 (the sequential form).
    """
    n = x.shape[-1]
    x = F.pad(x, (0, _padded(n) - n))
    levels, used = [], 0
    while x.shape[-1] > 1:
        a, b = x[:, 0::2], x[:, 1::2]
        v = u[:, used : used + a.shape[-1]]
        used += a.shape[-1]
        s = a + b
        decided_up = s >= 1.0
        a_carries = torch.where(decided_up, v * (2.0 - s) >= 1.0 - b, v * s < a)
        levels.append((a_carries, decided_up))
        x = s.frac()
    bit = x > 0.5
    for a_carries, decided_up in reversed(levels):
        pair = torch.where(a_carries, bit, decided_up), torch.where(a_carries, decided_up, bit)
        bit = torch.stack(pair, -1).flatten(-2)
    return bit[:, :n].to(torch.int64)


def _padded(n: int) -> int:
    return 1 << (n - 1).bit_length()


def tournament_size(n: int) -> int:
    """Number of uniforms that ``round_fractions`` uses for ``n`` fractions (one, unused, for ``n = 1``)."""
    return max(1, _padded(n) - 1)


def ssp(weights: Weights, m: int, u: Uniforms) -> Counts:
    """``m W`` rounded down or up with negatively associated counts: never worse than multinomial."""
    whole, fraction = _whole_and_fraction(weights, m)
    return whole.to(torch.int64) + round_fractions(fraction, u)


def killing(weights: Weights, m: int, u: Uniforms) -> Counts:
    """Keep particle ``i`` with probability ``W_i / max W``, else replace it by an independent draw.

    The smallest disturbance when weights are nearly equal. The first ``n`` uniforms decide who is kept.
    """
    n = weights.shape[-1]
    kept = u[:, :n] * weights.amax(-1, keepdim=True) < weights
    kept = kept.to(torch.int64)
    return kept + _independent(weights, n - kept.sum(-1, keepdim=True), u[:, n:])


@dataclass(frozen=True)
class Scheme:
    """A resampling scheme and what a caller must know about it.

    Args:
        name: its name in ``SCHEMES``.
        counts: ``(weights (g, n), m, u (g, uniforms(n, m))) -> (g, n)`` int64, the mean being ``m W``
            with ``W`` the normalised weights.
        uniforms: ``(n, m)`` to the number of float64 uniforms in [0, 1) that one group needs.
        resizes: whether ``m`` may differ from ``n``.
        biased: whether the mean of the counts is *not* ``m W``; the evidence is then void.
    """

    name: str
    counts: Callable[[Tensor, int, Tensor], Tensor]
    uniforms: Callable[[int, int], int]
    resizes: bool = True
    biased: bool = False

    def __call__(self, weights: Weights, m: int, u: Uniforms) -> Counts:
        """Draw the counts.

        Raises:
            ConfigError: if the scheme cannot make ``m`` of ``n``, or the uniforms have another shape.
        """
        g, n = weights.shape
        if m < 1:
            raise ConfigError(f"m={m} children: resampling needs at least one")
        if m != n and not self.resizes:
            able = ", ".join(repr(s.name) for s in SCHEMES.values() if s.resizes)
            raise ConfigError(f"{self.name!r} resampling keeps n={n} particles, got m={m}; use one of {able}")
        if u.shape != (g, self.uniforms(n, m)):
            raise ConfigError(
                f"{self.name!r} resampling of {n} into {m} needs uniforms of shape "
                f"{(g, self.uniforms(n, m))}, got {tuple(u.shape)}; ask scheme.uniforms(n, m)"
            )
        return self.counts(weights, m, u)


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("systematic", systematic, lambda n, m: 1),
        Scheme("stratified", stratified, lambda n, m: m),
        Scheme("multinomial", multinomial, lambda n, m: m + 1),
        Scheme("residual", residual, lambda n, m: m + 1),
        Scheme("ssp", ssp, lambda n, m: tournament_size(n)),
        Scheme("killing", killing, lambda n, m: 2 * n + 1, resizes=False),
    )
}


def get_scheme(scheme: str | Scheme) -> Scheme:
    """Look a scheme up by name; a ``Scheme`` is returned as it is.

    Raises:
        UnknownName: with the closest names.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise unknown_name("resampling scheme", scheme, SCHEMES)
    return SCHEMES[scheme]
