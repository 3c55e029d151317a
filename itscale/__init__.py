"""Inference-time scaling and guided sampling for pretrained diffusion and flow models.

Names load what they need when they are first used: ``import itscale`` itself is instant, and the core needs
torch and numpy alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = (
    "advice",
    "compose",
    "decoders",
    "errors",
    "experiments",
    "grids",
    "guides",
    "interpolants",
    "methods",
    "models",
    "noise",
    "operators",
    "particles",
    "pools",
    "potentials",
    "process",
    "rewards",
    "scenes",
    "scoring",
    "solvers",
    "values",
)
_NAMES = {
    "load": "itscale.models",
    "sample": "itscale.sampling",
    "advise": "itscale.advice",
    "calibrate": "itscale.sampling",
    "fit_value": "itscale.sampling",
    "tilt_log_z": "itscale.sampling",
    "reward": "itscale.scoring",
    "Result": "itscale.result",
    "Budget": "itscale.budget",
    "ODE": "itscale.process",
    "SDE": "itscale.process",
    "Masking": "itscale.process",
    "Epsilon": "itscale.process",
}

__all__ = sorted([*_MODULES, *_NAMES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from itscale import (
        advice,
        compose,
        decoders,
        errors,
        experiments,
        grids,
        guides,
        interpolants,
        methods,
        models,
        noise,
        operators,
        particles,
        pools,
        potentials,
        process,
        rewards,
        scenes,
        scoring,
        solvers,
        values,
    )
    from itscale.advice import advise
    from itscale.budget import Budget
    from itscale.models import load
    from itscale.process import ODE, SDE, Epsilon, Masking
    from itscale.result import Result
    from itscale.sampling import calibrate, fit_value, sample, tilt_log_z
    from itscale.scoring import reward


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"itscale.{name}")
    else:
        import difflib

        close = difflib.get_close_matches(name, __all__, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"module 'itscale' has no attribute {name!r}{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
