"""What a run returns: weighted samples, how sure they are, and what they cost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from itscale import particles as core
from itscale.budget import Spent
from itscale.errors import ConfigError

_TENSORS = (
    "samples",
    "states",
    "rewards",
    "held_out",
    "log_weights",
    "log_evidence",
    "ess",
    "ancestors",
    "times",
    "log_densities",
    "uncorrected",
)
_VERSION = 1


class Estimate(NamedTuple):
    """An expectation: mean over groups, its standard error (NaN for one group), the groups' own values."""

    value: float
    standard_error: float
    per_group: Float64[Tensor, " g"]

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.standard_error:.2g}"


@dataclass(frozen=True)
class Best:
    """The best samples of each group, best first."""

    samples: Tensor
    rewards: Float64[Tensor, "g k"]
    index: Int64[Tensor, "g k"]


@dataclass(frozen=True)
class Result:
    """Weighted samples of one run; tensors are (groups, particles, ...).

    Attributes:
        samples: what the user wants: images in [0, 1], vectors, ...
        states: what the model holds.
        rewards: (g, n), of the samples themselves; -inf where a final score was invalid, NaN without reward.
        held_out: (g, n) or None: a reward that steered nothing.
        log_weights: (g, n), unnormalised; zeros for a search or for unguided samples.
        log_evidence: (g,), log of the estimated normalising constant; NaN where the method has none.
        ess: (moments, g), effective sample size at the start and after each move; a run that time cut short
            has fewer moments than ``times``.
        ancestors: (T + 1, g, n) or None where the number of particles changed: see ``lineage``.
        times: (T + 1,), the grid.
        tilt: the exponent on the reward.
        claim: ``{"target": ..., "evidence": ...}`` of the method.
        spent: what it cost, pilots apart (``pilot``).
        truncated: time, a callback or Ctrl-C ended the run early; the claim is void then.
        trace: per level, plain numbers for plots.
        config: how the run was asked for, as plain values.
        warnings: what a reader of the numbers should know.
        notes: what the method says of its run, plain values by name.
        log_densities: (g, n, experts) or None: log-density of every expert of a composition where it follows
            them, at the last look and in the scale of its path; means along the run are in ``trace``.
        uncorrected: (g, k, ...) or None: samples of particles that followed the same drift from the same
            noise and were neither weighted nor resampled, where the method had some (``FKC(uncorrected=k)``).
    """

    samples: Tensor
    states: Tensor
    rewards: Float64[Tensor, "g n"]
    held_out: Float64[Tensor, "g n"] | None
    log_weights: Float64[Tensor, "g n"]
    log_evidence: Float64[Tensor, " g"]
    ess: Float64[Tensor, "moments g"]
    ancestors: Int64[Tensor, "moves g n"] | None
    times: Float64[Tensor, " levels"]
    tilt: float
    claim: dict[str, str | None]
    spent: Spent
    modality: str = "vector"
    truncated: bool = False
    pilot: Spent | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    log_densities: Float64[Tensor, "g n experts"] | None = None
    texts: list[list[str]] | None = None
    uncorrected: Tensor | None = None

    @property
    def groups(self) -> int:
        return self.log_weights.shape[0]

    @property
    def particles(self) -> int:
        return self.log_weights.shape[1]

    @property
    def weights(self) -> Float64[Tensor, "g n"]:
        """Normalised weights; uniform in a dead group."""
        return core.normalise(self.log_weights)

    @property
    def dead_groups(self) -> list[int]:
        """Groups whose particles all have weight zero: they say nothing about the target."""
        return core.is_dead(self.log_weights).nonzero().flatten().tolist()

    def best(self, k: int = 1) -> Best:
        """Return the k samples of highest reward in each group, best first."""
        self._needs_rewards("best")
        if not 1 <= k <= self.particles:
            raise ConfigError(f"best(k): k must be in 1..{self.particles}, got {k}")
        index = self.rewards.nan_to_num(-math.inf).argsort(dim=1, descending=True)[:, :k]
        return Best(self._gather(index), self.rewards.gather(1, index), index)

    def resample(self, k: int | None = None, seed: int = 0) -> Tensor:
        """Draw k equally weighted samples per group (systematic resampling), (g, k, ...)."""
        k = self.particles if k is None else k
        if k < 1:
            raise ConfigError(f"resample(k): k must be at least 1, got {k}")
        generator = torch.Generator().manual_seed(seed)
        u = torch.rand(self.groups, 1, dtype=torch.float64, generator=generator)
        return self._gather(core.resample(self.log_weights, u, "systematic", m=k).ancestors)

    def expect(
        self, f: Callable[[Tensor], Any] | Tensor, weighting: Literal["equal", "evidence"] = "equal"
    ) -> Estimate:
        """Estimate E[f(x)] under the weighted law, with a standard error over groups.

        Args:
            f: function of samples (m, ...) to (m,), or its values (g, n).
            weighting: how groups are averaged. ``"equal"`` suits groups of different conditions, and keeps
                the 1/n bias of each. ``"evidence"`` counts a group by its estimated normalising constant:
                for groups of one target, the bias falls as 1 / (g n).
        """
        if isinstance(f, Tensor):
            values = f.to(torch.float64)
        else:
            flat = self.samples.reshape(-1, *self.samples.shape[2:])
            values = torch.as_tensor(f(flat)).to(torch.float64).reshape(-1)
        if values.numel() != self.log_weights.numel():
            raise ConfigError(f"expect(f): f must give one number per sample, got {tuple(values.shape)}")
        values = values.reshape(self.groups, -1)
        weights = self.weights
        terms = torch.where(weights > 0, weights * values, 0.0)  # a sample of weight zero may score -inf
        alive = ~core.is_dead(self.log_weights)
        per_group = torch.where(alive, terms.sum(dim=1), torch.nan)  # over particles
        used = per_group[alive]
        if not len(used):
            return Estimate(math.nan, math.nan, per_group)
        share = self._share(weighting)[alive]
        mean = float(share @ used)
        # The delta method for a ratio of means; for equal shares it is the usual standard error.
        square = float((share * (used - mean)).square().sum()) * len(used) / max(len(used) - 1, 1)
        return Estimate(mean, math.sqrt(square) if len(used) > 1 else math.nan, per_group)

    def _share(self, weighting: str) -> Float64[Tensor, " g"]:
        alive = ~core.is_dead(self.log_weights)
        if weighting == "equal":
            return alive.double() / alive.sum()
        if weighting != "evidence":
            raise ConfigError(f"weighting must be 'equal' or 'evidence', got {weighting!r}")
        if self.claim["evidence"] is None:
            raise ConfigError("weighting='evidence' needs a method with an evidence; this run has none")
        return torch.softmax(torch.where(alive, self.log_evidence, -math.inf), dim=0)

    def retilt(self, tilt: float) -> Result:
        """Reweight the same samples for another tilt; look at the effective sample size afterwards."""
        self._needs_rewards("retilt")
        if self.claim["target"] is None:
            raise ConfigError("retilt needs weighted samples of a known law; this run was a search")
        at = 0.0 if self.claim["target"] == "base" else self.tilt  # unguided samples are not tilted yet
        change = (tilt - at) * self.rewards
        change = torch.where(self.rewards == -math.inf, -math.inf, change)
        moved = core.sanitize(self.log_weights + change).log_g
        base = (
            0.0 if self.claim["target"] == "base" else self.log_evidence - core.log_mean_exp(self.log_weights)
        )
        evidence = base + core.log_mean_exp(moved)
        claim = {"target": "tilted", "evidence": "unbiased"}
        return replace(self, log_weights=moved, log_evidence=evidence, tilt=tilt, claim=claim)

    def lineage(self) -> Int64[Tensor, "moves g n"]:
        """Return, for every final particle, the slot of its ancestor in each move's population.

        Row 0 is the slot in the initial draw: the number of distinct entries says how many of the first
        particles have descendants.
        """
        if self.ancestors is None:
            raise ConfigError("lineage needs a constant number of particles")
        slot = self.ancestors[-1]
        path = [slot]
        for parents in self.ancestors[:-1].flip(0):
            slot = parents.gather(1, slot)
            path.append(slot)
        return torch.stack(path[::-1])

    def grid(self, columns: int | None = None, by: str = "reward") -> Any:
        """Return a PIL image of the samples, one row per group, best first (or by weight)."""
        from itscale.pictures import image_grid

        if self.modality != "image":
            raise ConfigError(f"grid() shows images; this model's samples are of modality {self.modality!r}")
        key = self.weights if by == "weight" or bool(self.rewards.isnan().all()) else self.rewards
        order = key.argsort(dim=1, descending=True, stable=True)[:, :columns]
        return image_grid(self._gather(order))

    def summary(self) -> dict[str, Any]:
        """Return the numbers a table shows."""
        has_rewards = not bool(self.rewards.isnan().all())
        best = self.best() if has_rewards else None
        has_evidence = not bool(self.log_evidence.isnan().all())
        judged = None
        if self.held_out is not None and best is not None:
            judged = float(self.held_out.gather(1, best.index).mean())
        return {
            "groups": self.groups,
            "particles": self.particles,
            "target": self.claim["target"],
            "reward": self.expect(self.rewards).value if has_rewards else None,
            "best_reward": float(best.rewards.mean()) if best else None,
            "held_out": None if self.held_out is None else self.expect(self.held_out).value,
            "held_out_of_best": judged,
            "log_evidence": float(self.log_evidence.mean()) if has_evidence else None,
            "ess": float(core.effective_sample_size(self.log_weights).mean()),
            "nfe": max(self.spent.nfe),
            "reward_calls": max(self.spent.reward_calls),
            "seconds": round(self.spent.seconds, 3),
            "truncated": self.truncated,
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``result.npz`` and ``result.json`` into a folder, complete or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {k: v.numpy() for k in _TENSORS if (v := getattr(self, k)) is not None}
        partial = folder / "result.partial.npz"
        np.savez_compressed(partial, **arrays)
        facts = {
            "version": _VERSION,
            "tilt": self.tilt,
            "claim": self.claim,
            "modality": self.modality,
            "truncated": self.truncated,
            "spent": asdict(self.spent),
            "pilot": asdict(self.pilot) if self.pilot else None,
            "trace": self.trace,
            "config": self.config,
            "warnings": self.warnings,
            "notes": self.notes,
            "texts": self.texts,
        }
        text = json.dumps(facts, indent=1, default=str)
        (folder / "result.json.partial").write_text(text)
        partial.replace(folder / "result.npz")
        (folder / "result.json.partial").replace(folder / "result.json")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Result:
        """Read a saved result.

        Raises:
            ConfigError: if the folder holds none, or one of an unknown version.
        """
        folder = Path(folder)
        if not (folder / "result.json").exists():
            held = sorted(p.name for p in folder.glob("*"))[:8] if folder.exists() else "no such folder"
            raise ConfigError(f"no result in {folder}: expected result.json and result.npz, found {held}")
        facts = json.loads((folder / "result.json").read_text())
        if facts.pop("version") != _VERSION:
            raise ConfigError(f"{folder} was written by another version of itscale")
        with np.load(folder / "result.npz", allow_pickle=False) as arrays:
            tensors = {k: torch.from_numpy(arrays[k]) if k in arrays else None for k in _TENSORS}
        spent, pilot = Spent(**facts.pop("spent")), facts.pop("pilot")
        return cls(**tensors, **facts, spent=spent, pilot=Spent(**pilot) if pilot else None)  # type: ignore[arg-type]

    def _gather(self, index: Tensor) -> Tensor:
        shape = index.reshape(*index.shape, *(1,) * (self.samples.ndim - 2))
        return self.samples.gather(1, shape.expand(*index.shape, *self.samples.shape[2:]))

    def _needs_rewards(self, what: str) -> None:
        if bool(self.rewards.isnan().all()):
            raise ConfigError(f"{what} needs rewards: run sample(..., reward=...)")

    def __repr__(self) -> str:
        s = self.summary()
        reward = "" if s["reward"] is None else f", reward {s['reward']:.4g} (best {s['best_reward']:.4g})"
        flags = " TRUNCATED" if self.truncated else ""
        return (
            f"<Result {self.groups} x {self.particles} {self.modality} samples{reward}, "
            f"ESS {s['ess']:.1f}, {self.spent}{flags}>"
        )

    def _repr_html_(self) -> str:
        from itscale.pictures import html_summary

        return html_summary(self)
