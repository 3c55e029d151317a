"""A value that was learned beforehand: no reward call and no decoding before the last look."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.models.conditions import Encoding, as_tensor
from itscale.networks.value_network import ValueNetwork
from itscale.process import ContinuousProcess
from itscale.types import State
from itscale.values.base import ScoreCost, Sight

VERSION = 1


@dataclass(frozen=True)
class LearnedForecast:
    """A network, with the times of its own path and the factors to unit size at every level."""

    network: ValueNetwork
    times: tuple[float, ...]
    factors: tuple[float, ...]

    @property
    def cost(self) -> ScoreCost:
        return ScoreCost(calls=0, is_denoised=False)

    def __call__(self, sight: Sight) -> Tensor:
        t, factor = self.times[sight.level], self.factors[sight.level]
        network = self.network.to(sight.at.x.device)

        def run(x: State, condition: Encoding | None) -> Tensor:
            given = None if condition is None else as_tensor(condition)
            return network(x, torch.full((len(x),), t, device=x.device), given)

        return sight.call(run, (factor * sight.at.x).float(), None)


@dataclass(frozen=True)
class Learned:
    """What ``itscale.fit_value`` wrote: a small network's forecast of the reward from state, time, condition.

    Cost: a pass through a network much smaller than the model's; no look, no reward call and no decoding
    before the last look. For rewards that cost more than the model. Target: any method's, unchanged.

    Attributes:
        path: the file.
        digest: of its content; found if it is not given, checked if it is.

    Reference:
        Li et al. (2024), arXiv:2408.08252 (SVDD-MC).
    """

    path: str
    digest: str = ""

    def __post_init__(self) -> None:
        try:
            found = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise ConfigError(
                f"learned value {self.path!r} cannot be read ({type(error).__name__}); itscale.fit_value "
                "writes one"
            ) from error
        if self.digest not in ("", found):
            raise ConfigError(
                f"learned value {self.path!r} is another file than it was: digest {found}, not {self.digest}"
            )
        object.__setattr__(self, "digest", found)
        _loaded(self.path, found)

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the fit: tilt, samples, and how much of the held-out rewards it explains."""
        return _loaded(self.path, self.digest)[1]

    def build(self, process: ContinuousProcess, times: Tensor) -> LearnedForecast:
        network, path = _loaded(self.path, self.digest)[0], process.model.interpolant
        if network.event_shape != tuple(process.model.event_shape):
            raise ConfigError(
                f"the value of {self.path!r} is for states of shape {network.event_shape}, and the model's "
                f"are {tuple(process.model.event_shape)}; fit one for this model"
            )
        own, scale = interpolants.match(path, process.interpolant, times[:-2])
        factors = 1 / (scale * unit_size(path, own))
        return LearnedForecast(network, tuple(own.tolist()), tuple(factors.tolist()))


def unit_size(path: interpolants.Interpolant, t: Tensor) -> Tensor:
    """The size of a coordinate of a state on a path, if that of data is 1."""
    return (path.alpha(t) ** 2 + path.sigma(t) ** 2).sqrt()


def save_network(network: ValueNetwork, path: str | Path, facts: dict[str, Any]) -> Path:
    """Write a fitted network to one file, without code in it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": VERSION, "settings": network.settings, "facts": facts}
    torch.save({**content, "state": network.state_dict()}, path)
    return path


@functools.lru_cache(maxsize=8)
def _loaded(path: str, digest: str) -> tuple[ValueNetwork, dict[str, Any]]:
    try:
        saved = torch.load(path, weights_only=True)
        if saved["version"] != VERSION:
            raise ConfigError(f"learned value {path!r} has version {saved['version']}, this is {VERSION}")
        settings = saved["settings"]
        network = ValueNetwork(tuple(settings.pop("event_shape")), **settings)
        network.load_state_dict(saved["state"])
    except ConfigError:
        raise
    except Exception as error:  # whatever a foreign or broken file makes of it
        raise ConfigError(
            f"{path!r} holds no learned value ({type(error).__name__}); itscale.fit_value writes one"
        ) from error
    return network.eval().requires_grad_(False), saved["facts"]
