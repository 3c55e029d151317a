"""Compositions as a configuration names them: a list of experts, each a model with what belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from itscale.compose import equal_density as join_equal
from itscale.compose import mixture as join_mixture
from itscale.errors import ConfigError
from itscale.models.algebra import Exponent, Product, Ramp
from itscale.runs import layers

Divergence = Literal["exact", "hutchinson"]


def product(
    experts: list[Any],
    gauge: Literal["gaussian", "adaptive", "velocity-sum", "none"] = "gaussian",
    weights: Literal["trapezoid", "euler", "kernel"] = "trapezoid",
    mean: float | None = None,
    variance: float | None = None,
    density: Literal["ito", "exact"] | None = None,
    divergence: Divergence | None = None,
) -> Product:
    """A product of experts with exponents: annealing, guidance, what two conditions have in common."""
    models = _models(experts)
    made = [
        Product.of(model) ** exponent_of(entry, f"model.experts.{i}")
        for i, (model, entry) in enumerate(zip(models, experts, strict=True))
    ]
    law = made[0]
    for factor in made[1:]:
        law = law * factor
    settings = {"gauge": gauge, "weights": weights, "mean": mean, "variance": variance}
    return law.corrected(**settings, density=density, divergence=divergence)


def mixture(
    experts: list[Any],
    weights: list[float] | None = None,
    temperature: float = 1.0,
    density: Literal["ito", "exact"] = "ito",
    divergence: Divergence | None = None,
) -> Any:
    """Samples of one expert or another."""
    options = {"weights": weights, "temperature": temperature, "density": density, "divergence": divergence}
    return join_mixture(*_models(experts), **options)  # type: ignore[arg-type]


def equal_density(
    experts: list[Any],
    bias: list[float] | None = None,
    clamp: float | None = None,
    divergence: Divergence | None = None,
) -> Any:
    """Samples that are as likely under one expert as under the others."""
    return join_equal(*_models(experts), bias=bias, clamp=clamp, divergence=divergence)


COMPOSITIONS: dict[str, Callable[..., Any]] = {
    "product": product,
    "mixture": mixture,
    "equal-density": equal_density,
}


def expert_settings(experts: Any, kind: str) -> list[dict[str, Any]]:
    """Return the experts of a composition as mappings, without the exponents, which are checked.

    Raises:
        ConfigError: naming the place of what is no expert, or of an exponent that is none.
    """
    if not isinstance(experts, list) or not experts:
        raise ConfigError(
            f"model.experts must list models, such as [{{name: digits, condition: 3}}], got {experts!r}"
        )
    found = []
    for i, entry in enumerate(experts):
        path, entry = f"model.experts.{i}", layers.named(entry)
        if not isinstance(entry, Mapping):
            raise ConfigError(f"{path} must be a model's name, or a mapping with one, got {entry!r}")
        if entry.get("name") in COMPOSITIONS:
            raise ConfigError(f"{path} is a {entry['name']}, and experts are models; multiply them out")
        if kind == "product":
            exponent_of(entry, path)
        elif "exponent" in entry:
            raise ConfigError(f"{path}.exponent belongs to a product, and this is a {kind}")
        found.append({key: value for key, value in entry.items() if key != "exponent"})
    return found


def exponent_of(entry: Any, path: str) -> Exponent:
    """Return the exponent of an expert: a number, or a ramp in time written ``[from, to]``."""
    value = layers.named(entry).get("exponent", 1.0)
    ends = value if isinstance(value, list) else [value]
    is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in ends)
    if not is_number or len(ends) not in (1, 2) or (isinstance(value, list) and len(ends) == 1):
        raise ConfigError(f"{path}.exponent is {value!r}: it should be a number, or [from, to] over time")
    return Ramp(*map(float, ends)) if len(ends) == 2 else float(ends[0])


def _models(experts: list[Any]) -> list[Any]:
    """The models of the experts, each with its condition and guidance."""
    from itscale.runs.rooms import ModelSetting  # which is built on this file

    found = []
    for i, entry in enumerate(experts):
        setting = ModelSetting.read({k: v for k, v in layers.named(entry).items() if k != "exponent"})
        model = setting.load()
        if setting.condition is not None or setting.guidance != 1:
            try:
                model = model.given(setting.condition, setting.guidance)
            except ConfigError as error:
                raise type(error)(f"model.experts.{i}: {error}") from error
        found.append(model)
    return found


__all__ = ["COMPOSITIONS", "equal_density", "expert_settings", "exponent_of", "mixture", "product"]
