"""A cache of scores by content: resampling duplicates particles, and many methods look twice."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.scoring.composable import Composable
from itscale.scoring.facts import take_facts, take_samples
from itscale.scoring.protocol import Reward
from itscale.scoring.spec import RewardSpec, Scores


class Cached(Composable):
    """A reward that remembers its last ``size`` scores; equal samples in one batch are scored once.

    Two samples are equal if their bytes and the facts that the reward asks for are. A reward that
    asks for ``t`` or ``step`` therefore finds nothing again at another time. Scores only: gradients
    pass by the cache.

    Args:
        reward: anything that ``as_reward`` takes, deterministic.
        size: scores kept, the least recently used going first.

    Attributes:
        hits: samples answered without evaluating them, duplicates in a batch included.
        misses: samples that were evaluated.

    Raises:
        ConfigError: for a reward that is not deterministic, or a size below 1.
    """

    def __init__(self, reward: Any, size: int = 10_000) -> None:
        from itscale.scoring.convert import as_reward

        self.inner: Reward = as_reward(reward)
        if not self.inner.spec.deterministic:
            raise ConfigError(
                f"reward {self.inner.name!r} is not deterministic, so a cache would freeze its noise; "
                "use it without one"
            )
        if size < 1:
            raise ConfigError(f"a cache of size {size} holds nothing; give at least 1, or use no cache")
        self.size = size
        self.hits = self.misses = 0
        self._kept: OrderedDict[bytes, Scores] = OrderedDict()

    @property
    def spec(self) -> RewardSpec:
        """The facts of the reward inside."""
        return self.inner.spec

    @property
    def label(self) -> str:
        """The name of the reward inside."""
        return self.inner.name

    @property
    def wanted(self) -> tuple[str, ...]:
        """The facts that the scores may depend on."""
        return self.inner.wanted

    def clear(self) -> None:
        """Forget all scores and counts."""
        self._kept.clear()
        self.hits = self.misses = 0

    def raw(self, samples: Any, facts: Mapping[str, Any]) -> Tensor:
        """The differentiable score, evaluated anew."""
        return self.inner.raw(samples, facts)

    def score(self, samples: Any, facts: Mapping[str, Any], batch_size: int | None) -> Scores:
        """Score what is new among ``m`` samples; ``Scores.calls`` counts it."""
        m = len(samples)
        keys = self._keys(samples, facts, m)
        fresh = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._kept}
        found = {key: self._kept[key] for key in keys if key in self._kept}
        if fresh:
            index = sorted(fresh.values())
            new = self.inner.score_prepared(
                take_samples(samples, index), take_facts(facts, index), batch_size
            )
            found.update({keys[i]: _row(new, k) for k, i in enumerate(index)})
        self.misses += len(fresh)
        self.hits += m - len(fresh)
        self._remember(keys, found)
        return _assemble([found[key] for key in keys], samples, len(fresh))

    def _remember(self, keys: list[bytes], found: Mapping[bytes, Scores]) -> None:
        for key in keys:
            self._kept[key] = found[key]
            self._kept.move_to_end(key)
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)

    def _keys(self, samples: Any, facts: Mapping[str, Any], m: int) -> list[bytes]:
        chosen = {name: _host(facts[name]) for name in self.wanted if name in facts}
        samples = _host(samples)
        keys = []
        for i in range(m):
            digest = hashlib.blake2b(f"{self.label}|{self.spec.version}".encode(), digest_size=16)
            _feed(digest, samples[i])
            _feed(digest, take_facts(chosen, [i]))
            keys.append(digest.digest())
        return keys


def _row(scores: Scores, k: int) -> Scores:
    """One sample's scores on the host, so that a cache holds no device memory."""
    reasons = None if scores.reasons is None else [scores.reasons[k]]
    parts = {name: part[k : k + 1].cpu() for name, part in scores.parts.items()}
    return Scores(scores.values[k : k + 1].cpu(), scores.valid[k : k + 1].cpu(), parts, reasons, 1)


def _assemble(rows: list[Scores], samples: Any, calls: int) -> Scores:
    device = samples.device if isinstance(samples, Tensor) else torch.device("cpu")
    if not rows:
        return Scores(torch.zeros(0, device=device), torch.zeros(0, dtype=torch.bool, device=device))
    names = dict.fromkeys(name for row in rows for name in row.parts)
    absent = torch.full((1,), float("nan"))
    reasons = [row.first_reason for row in rows]
    return Scores(
        torch.cat([row.values for row in rows]).to(device),
        torch.cat([row.valid for row in rows]).to(device),
        {name: torch.cat([row.parts.get(name, absent) for row in rows]).to(device) for name in names},
        reasons if any(reasons) else None,
        calls,
    )


def _host(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _feed(digest: Any, value: Any) -> None:
    """Feed one value to a digest, with its kind and length, so that no two values share a form."""
    if isinstance(value, Tensor):
        _head(digest, f"{value.dtype}{tuple(value.shape)}")
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        _head(digest, f"{value.dtype}{value.shape}")
        digest.update(np.ascontiguousarray(value).tobytes())
    elif value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        _head(digest, f"{type(value).__name__}:{value!r}")
    elif isinstance(value, Mapping):
        _head(digest, f"mapping{len(value)}")
        for key in sorted(value, key=repr):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, (list, tuple)):
        _head(digest, f"list{len(value)}")
        for item in value:
            _feed(digest, item)
    else:
        raise ConfigError(
            f"a cached reward cannot compare {type(value).__name__} objects by content; "
            "use strings, numbers, arrays and tensors, or no cache"
        )


def _head(digest: Any, text: str) -> None:
    data = text.encode()
    digest.update(len(data).to_bytes(8, "little") + data)
