"""Profiles of the bundled models, made once (``itscale.experiments.make_profiles``) and shipped as JSON.

Also what a profile was made for, so that one which does not fit is not used in silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from itscale.methods import Profile
from itscale.models.bundled import BUNDLED
from itscale.models.image_flow import ImageFlow
from itscale.process import ContinuousProcess, TokenProcess
from itscale.scoring import Reward
from itscale.scoring.leaf import FunctionLeaf
from itscale.scoring.rules import Linear

COMMON = ("times", "spread", "nfe", "model", "process", "source")  # what the profiles of a file share


def shipped_profile(process: ContinuousProcess, reward: Reward, conditions: Sequence[Any]) -> Profile | None:
    """Return the shipped profile of exactly this model, process and reward, or None.

    The network's weights, the path, the diffusion coefficient and the reward with its options and version
    must be those it was made for, and every group must have a condition. Grid and solver may be others: what
    is known at the times of one grid is interpolated (``Profile.on``). A built-in reward times a number, plus
    a number, has the same profile on another scale.
    """
    model = process.model
    if not isinstance(model, ImageFlow) or any(condition is None for condition in conditions):
        return None
    found = _built_in(reward)
    if found is None:
        return None
    name, version, weight, shift = found
    weights = None
    for bundled in BUNDLED:
        file = _file(bundled)
        if file is None or file["process"] != process_text(process) or file["versions"].get(name) != version:
            continue
        weights = weights or fingerprint(model.network)
        if weights == file["fingerprint"]:
            shared = {key: file[key] for key in COMMON}
            profile = Profile.of_fields({**shared, **file["profiles"][name]}).scaled(weight, shift)
            return replace(profile, reward=reward.name)
    return None


def mismatches(profile: Profile, process: ContinuousProcess | TokenProcess, reward: Reward) -> list[str]:
    """Say in what a profile differs from the run that is to use it. It costs particles and no exactness."""
    pairs = (("reward", profile.reward, reward.name), ("process", profile.process, process_text(process)))
    return [
        f"the profile was made for the {what} {made!r}, and this run has {own!r}: the target stays, but the "
        "settings may be poor; make one with itscale.calibrate"
        for what, made, own in pairs
        if made and made != own
    ]


def process_text(process: ContinuousProcess | TokenProcess) -> str:
    """What of a process a profile depends on: path, diffusion coefficient, start."""
    if isinstance(process, TokenProcess):
        return repr(process.view)
    return ", ".join(repr(part) for part in (process.interpolant, process.diffusion, process.prior) if part)


def fingerprint(network: nn.Module) -> str:
    """Return a digest of all weights and their names; values in another precision are other weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def write(path: Path, profiles: Sequence[Profile], versions: dict[str, str], **facts: Any) -> Path:
    """Write the file of one model: profiles of several rewards on the same trajectories.

    Args:
        versions: of the rewards, by name.
        facts: ``fingerprint``.
    """
    own = [field for field in ("slope", "correlation", "reward_std", "quantiles", "reward")]
    content = {
        **facts,
        **{name: _rounded(getattr(profiles[0], name)) for name in COMMON},
        "versions": versions,
        "profiles": {p.reward: {name: _rounded(getattr(p, name)) for name in own} for p in profiles},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    return path


def _built_in(reward: Reward) -> tuple[str, str, float, float] | None:
    """Name and version of the built-in reward that this one is ``weight`` times, plus ``shift``; or None."""
    if isinstance(reward.rule, Linear) and len(reward.operands) == 1:
        inner = _built_in(reward.operands[0])
        (weight,) = reward.rule.weights
        if inner is None or weight == 0:
            return None
        name, version, w, b = inner
        return name, version, weight * w, weight * b + reward.rule.shift
    leaf = reward.leaf
    if not isinstance(leaf, FunctionLeaf) or leaf.options:
        return None
    # a reward of the user's own may have any name
    is_ours = type(leaf.function).__module__.startswith("itscale.rewards.")
    return (reward.name, reward.spec.version, 1.0, 0.0) if is_ours else None


def _rounded(value: Any) -> Any:
    """Numbers to five digits: trajectories know no more."""
    if isinstance(value, tuple):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


@cache
def _file(name: str) -> dict[str, Any] | None:
    file = resources.files("itscale.sampling") / "profiles" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
