"""A value that was learned beforehand: no reward call and no decoding before the last look."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.models.conditions import Encoding, as_tensor
from itscale.networks.token_value_network import TokenValueNetwork
from itscale.networks.value_network import ValueNetwork
from itscale.process import ContinuousProcess
from itscale.process.masking import get_masking
from itscale.process.tokens import TokenProcess
from itscale.types import State
from itscale.values.base import ScoreCost, Sight, Unseen

VERSION = 1
Fitted = ValueNetwork | TokenValueNetwork


@dataclass(frozen=True)
class LearnedForecast:
    """A network, with the times of its own path and the factors to unit size at every level."""

    network: ValueNetwork
    times: tuple[float, ...]
    factors: tuple[float, ...]
    before_look: bool  # not where the weights of a composition are known at a look

    @property
    def cost(self) -> ScoreCost:
        return ScoreCost(calls=0, is_denoised=False, before_look=self.before_look)

    def __call__(self, sight: Sight) -> Tensor:
        t, factor = self.times[sight.level], self.factors[sight.level]
        network = self.network.to(sight.at.x.device)

        def run(x: State, condition: Encoding | None) -> Tensor:
            given = None if condition is None else as_tensor(condition)
            return network(x, torch.full((len(x),), t, device=x.device), given)

        return sight.call(run, (factor * sight.at.x).float(), None)


@dataclass(frozen=True)
class LearnedTokenForecast:
    """A network of sequences, with the share of clean tokens at every level."""

    network: TokenValueNetwork
    shares: tuple[float, ...]

    @property
    def cost(self) -> ScoreCost:
        return ScoreCost(calls=0, is_denoised=False, before_look=True)

    def __call__(self, sight: Sight) -> Tensor:
        at = cast(Unseen, sight.at)
        space = at.process.tokens
        network = self.network.to(at.x.device)

        def run(x: State, condition: Encoding | None) -> Tensor:
            given = None if condition is None else as_tensor(condition)
            if space.noise == "uniform":
                share = torch.full((len(x),), self.shares[sight.level], device=x.device)
            else:
                share = (x != space.mask).float().mean(dim=1)
            return network(x, share, given)

        return sight.call(run, space.shown(at.x), None)


@dataclass(frozen=True)
class Learned:
    """What ``itscale.fit_value`` wrote: a small network's forecast of the reward from state, time, condition.

    Cost: a pass through a network much smaller than the model's; no look, no reward call and no decoding
    before the last look. ``NestedSMC`` and ``SVDD`` choose among children before they look at them, so that
    M children cost one look. For rewards that cost more than the model. Target: any method's, unchanged.

    One that was fitted to a masked model reads its sequences as they are hidden; the share of visible tokens
    is the time.

    Attributes:
        path: the file.
        digest: of its content; found if it is not given, checked if it is.

    Reference:
        Li et al. (2024), arXiv:2408.08252 (SVDD-MC).
    """

    path: str
    digest: str = ""

    for_tokens = True

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

    def build(self, process: ContinuousProcess | TokenProcess, times: Tensor) -> Any:
        network = _loaded(self.path, self.digest)[0]
        is_of_tokens = isinstance(network, TokenValueNetwork)
        if is_of_tokens != isinstance(process, TokenProcess):
            raise ConfigError(
                f"the value of {self.path!r} was fitted to a {'masked' if is_of_tokens else 'continuous'} "
                "model; fit one for this model"
            )
        if isinstance(process, TokenProcess):
            return self._build_for_tokens(cast(TokenValueNetwork, network), process, times)
        path = process.model.interpolant
        if network.event_shape != tuple(process.model.event_shape):
            raise ConfigError(
                f"the value of {self.path!r} is for states of shape {network.event_shape}, and the model's "
                f"are {tuple(process.model.event_shape)}; fit one for this model"
            )
        own, scale = interpolants.match(path, process.interpolant, times[:-2])
        factors = 1 / (scale * unit_size(path, own))
        return LearnedForecast(
            cast(ValueNetwork, network), tuple(own.tolist()), tuple(factors.tolist()), not process.has_rates
        )

    def _build_for_tokens(
        self, network: TokenValueNetwork, process: TokenProcess, times: Tensor
    ) -> LearnedTokenForecast:
        space = process.tokens
        fitted, own = network.settings, (space.offset, process.length)
        if (fitted["tokens"], fitted["length"]) != own:
            raise ConfigError(
                f"the value of {self.path!r} is for {fitted['length']} positions of {fitted['tokens']} "
                f"tokens with the mask, and the model has {own[1]} of {own[0]}; fit one for this model"
            )
        return LearnedTokenForecast(network, clean_shares(process, times))


def clean_shares(process: TokenProcess, times: Tensor) -> tuple[float, ...]:
    """The share of clean tokens at every time."""
    schedule = get_masking(process.view.schedule)
    return tuple(schedule.clean(t) for t in times.tolist())


def unit_size(path: interpolants.Interpolant, t: Tensor) -> Tensor:
    """The size of a coordinate of a state on a path, if that of data is 1."""
    return (path.alpha(t) ** 2 + path.sigma(t) ** 2).sqrt()


def save_network(network: Fitted, path: str | Path, facts: dict[str, Any]) -> Path:
    """Write a fitted network to one file, without code in it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "tokens" if isinstance(network, TokenValueNetwork) else "states"
    content = {"version": VERSION, "kind": kind, "settings": network.settings, "facts": facts}
    torch.save({**content, "state": network.state_dict()}, path)
    return path


@functools.lru_cache(maxsize=8)
def _loaded(path: str, digest: str) -> tuple[Fitted, dict[str, Any]]:
    try:
        saved = torch.load(path, weights_only=True)
        if saved["version"] != VERSION:
            raise ConfigError(f"learned value {path!r} has version {saved['version']}, this is {VERSION}")
        settings = saved["settings"]
        if saved.get("kind") == "tokens":
            network = TokenValueNetwork(**settings)
        else:
            network = ValueNetwork(tuple(settings.pop("event_shape")), **settings)
        network.load_state_dict(saved["state"])
    except ConfigError:
        raise
    except Exception as error:  # whatever a foreign or broken file makes of it
        raise ConfigError(
            f"{path!r} holds no learned value ({type(error).__name__}); itscale.fit_value writes one"
        ) from error
    return network.eval().requires_grad_(False), saved["facts"]
