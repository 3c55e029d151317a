"""Laws made of several models: product, mixture and equal density are three different operators.

``a * b`` is large where both densities are, ``a | b`` where one is, and ``a & b`` lives on the surface where
they are equal. For two models with modes of width 0.4 at y = 1.5 and at y = -1.5, the product has a standard
deviation of 0.28 in y and equal density one of 0.001 (1000 steps).

All take ``sample`` as models do; conditions belong to the experts, ``model.given(3)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from itscale.errors import ConfigError
from itscale.models.algebra import Exponent, Product, Ramp
from itscale.models.superposition import EqualDensity, Mixture

Divergence = Literal["exact", "hutchinson"]


def mixture(
    *models: Any,
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
    density: Literal["ito", "exact"] = "ito",
    divergence: Divergence | None = None,
) -> Mixture:
    """Join models so that samples are of one or another: the law ``sum_i w_i q_i(x)``.

    Cost: T NFE a particle, each of as many network rows as there are experts; with ``divergence`` a backward
    pass more of each, or one per coordinate. Target: the mixture, as steps shrink; none with another
    temperature than 1.

    Args:
        models: at least two, of one space.
        weights: positive, one each; normalised. None is equal ones.
        temperature: above 1 every sample is handed over to one expert; 100 chooses one.
        density: ``"ito"`` estimates log-densities along the run, by default on the SDE; ``"exact"`` asks
            the experts, which must know them (``marginal_log_prob``), on any process.
        divergence: for ``density="ito"`` on the ODE or with another noise than the natural one.

    Raises:
        ConfigError: naming what does not fit.

    Reference:
        Skreta et al. (2025), "The Superposition of Diffusion Models Using the Ito Density Estimator",
        arXiv:2412.17762.
    """
    given = None if weights is None else tuple(map(float, weights))
    return Mixture(models, given, float(temperature), density, divergence)


def equal_density(
    *models: Any,
    bias: float | Sequence[float] | None = None,
    clamp: float | None = None,
    divergence: Divergence | None = None,
) -> EqualDensity:
    """Join models so that samples are as likely under each: ``log q_i - log q_0`` is the bias, or 0.

    Cost: as ``mixture``. Target: none; it is no known law. Methods run and steer it, and claim nothing.

    Args:
        models: at least two, of one space.
        bias: what ``log q_i - log q_0`` is to be at the end, one for every model but the first.
        clamp: the largest ``|kappa_i - 1/M|`` of a step; None has no limit. ``result.notes`` has the largest
            kappa of the run.
        divergence: as for ``mixture``; with the ODE kappa depends on differences of divergences.

    Raises:
        ConfigError: naming what does not fit.

    Reference:
        Skreta et al. (2025), arXiv:2412.17762.
    """
    if bias is not None:
        bias = (float(bias),) if isinstance(bias, int | float) else tuple(map(float, bias))
    return EqualDensity(models, bias, clamp, divergence)


def guidance(condition: Any, base: Any, weight: Exponent) -> Product:
    """``(condition / base) ** weight * base``: classifier-free guidance, weighted so that it is a law."""
    return (Product.of(condition) / base) ** weight * base


def geometric_mean(*models: Any, weights: Sequence[float] | None = None) -> Product:
    """The law proportional to ``prod_i q_i(x)^(w_i)`` with weights of sum 1, by default equal ones.

    Raises:
        ConfigError: for no model, or weights that are not one positive number each.
    """
    given = (1.0,) * len(models) if weights is None else tuple(map(float, weights))
    if not models or len(given) != len(models) or not all(w > 0 for w in given):
        raise ConfigError(
            f"geometric_mean needs models and one weight > 0 for each, got {len(models)} models and weights "
            f"{weights}"
        )
    product = Product.of(models[0]) ** (given[0] / sum(given))
    for model, weight in zip(models[1:], given[1:], strict=True):
        product = product * Product.of(model) ** (weight / sum(given))
    return product


__all__ = [
    "EqualDensity",
    "Mixture",
    "Product",
    "Ramp",
    "equal_density",
    "geometric_mean",
    "guidance",
    "mixture",
]
