"""Make a run of a masked model ready: decoder, levels, what its moves and values cost."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from itscale.decoders import Decoder, TokenKernel, get_decoder
from itscale.errors import ConfigError
from itscale.methods import Cost, Method
from itscale.process.masking import Masking
from itscale.process.tokens import TokenProcess, check_masked
from itscale.scoring import as_reward
from itscale.values import DENOISED_COST, Denoised, Forecast, Value, get_value


class TokenSetup(NamedTuple):
    """What ``prepare`` puts into its setup."""

    view: Masking
    decoder: Decoder
    process: TokenProcess
    times: Tensor
    kernel: TokenKernel
    value: Value
    forecast: Forecast | None
    cost: Cost


def token_setup(
    model: Any,
    method: Method,
    *,
    reward: Any,
    steps: int | None,
    process: Any,
    solver: Any,
    grid: Any,
    value: Any,
    template: Tensor | None,
) -> TokenSetup:
    """Check the settings of a run of a masked model; nothing is evaluated.

    There is one level more than a decoder has: at it sequences are complete, so that their rewards are known
    before the method is done, and the last move changes nothing. The look there is free.

    Raises:
        ConfigError: naming the setting that does not fit a masked model.
    """
    view = Masking() if process is None else process
    if not isinstance(view, Masking):
        raise ConfigError(f"a masked model runs on process=Masking(schedule=...), got {process!r}")
    if grid not in ("native", "uniform"):
        raise ConfigError(
            f"a masked model has no time grid, got grid={grid!r}; choose process=Masking(schedule=...)"
        )
    check_masked(model)
    decoder = get_decoder("first-hitting" if solver is None else solver)
    check_method(method, decoder)
    dynamics = TokenProcess(model, view, template)
    kernel = decoder.build(dynamics, steps)
    times = torch.cat([kernel.times, kernel.times[-1:]])
    if method.needs.noise and not any(kernel.is_noisy(k) for k in range(kernel.steps)):
        raise ConfigError(
            f"{type(method).__name__} needs noise, and {type(decoder).__name__} takes the likeliest tokens: "
            "copies of a sequence would never part; use solver='first-hitting' or 'confidence'"
        )
    chosen, forecast = _value(value, dynamics, times)
    return TokenSetup(
        view, decoder, dynamics, times, kernel, chosen, forecast, _cost(kernel, model, forecast, reward)
    )


def check_method(method: Method, decoder: Decoder) -> None:
    """Raise ConfigError for a method that a masked model cannot serve."""
    name, needs = type(method).__name__, method.needs
    if needs.normal or needs.gradient:
        what = "the gradient of the reward" if needs.gradient else "normal noise, to push or to search in"
        raise ConfigError(
            f"{name} needs {what}, and a masked model moves by drawing tokens; use a method that weighs and "
            "chooses, such as 'smc', 'nested-smc', 'svdd' or 'best-of-n'"
        )
    if needs.jumps:
        raise ConfigError(
            f"{name} moves to noise and back along a continuous path, which a masked model has not; use "
            "'smc', or 'particle-gibbs' to refine paths"
        )
    if needs.profile:
        raise ConfigError(
            f"{name} asks for a profile of base trajectories, which is measured on continuous models; pass "
            "profile= of your own, or use 'smc'"
        )
    if needs.density and not decoder.has_density:
        raise ConfigError(
            f"{name} weights by probabilities of moves, and those of {type(decoder).__name__} are not known; "
            "use solver='first-hitting' or 'ancestral'"
        )


def _value(value: Any, process: TokenProcess, times: Tensor) -> tuple[Value, Forecast | None]:
    chosen = get_value(value)
    if isinstance(chosen, Denoised):
        return chosen, None
    if not getattr(chosen, "for_tokens", False):
        raise ConfigError(
            f"{type(chosen).__name__} is a value of continuous models; masked ones take value='denoised' "
            "(the likeliest completion), values.Completions(...), values.Learned(...) or "
            "values.Tabulated(...)"
        )
    forecast = chosen.build(process, times)  # pyright: ignore[reportArgumentType]
    return chosen, forecast


def _cost(kernel: TokenKernel, model: Any, forecast: Forecast | None, reward: Any) -> Cost:
    steps = kernel.steps + 1
    extra = [kernel.extra_looks(k) for k in range(steps)]
    clean = kernel.times[:-1].clamp(min=1e-12)
    return Cost(
        steps,
        tuple(extra),
        tuple(kernel.is_noisy(k) for k in range(steps)),
        model.rows_per_look,
        DENOISED_COST if forecast is None else forecast.cost,
        (*((1 - clean) / clean).tolist(), 0.0),
        reward is not None,
        reward is not None and as_reward(reward).gradient_ready,
    )
