"""What a run ran on: versions, commit, device, seeds, fingerprints of weights."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from itscale import __version__
from itscale.runs.config import Config

PACKAGES = (
    "torch",
    "numpy",
    "pydantic",
    "scipy",
    "matplotlib",
    "pyarrow",
    "diffusers",
    "transformers",
    "ray",
)


def facts(config: Config) -> dict[str, Any]:
    """Return the facts that ``env.json`` holds; nothing in them changes a result."""
    models = {name: model for cell in config.cells for name, model in cell.model.networks().items()}
    device = config.cells[0].pool.device if hasattr(config.cells[0].pool, "device") else None
    return {
        "itscale": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: v for name in PACKAGES if (v := _version(name))},
        "device": device or ("cuda" if torch.cuda.is_available() else "cpu"),
        "device_name": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "seeds": sorted({cell.run.seed for cell in config.cells}),
        "weights": {name: print_ for name, model in models.items() if (print_ := fingerprint(model))},
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def fingerprint(model: Any) -> str | None:
    """Return the first 16 hex digits of the SHA-256 of a model's weights; None if it has none."""
    fields = vars(model).values() if hasattr(model, "__dict__") else ()
    digest, found = hashlib.sha256(), False
    for value in fields:
        if isinstance(value, torch.nn.Module):
            for name, tensor in sorted(value.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
                found = True
    return digest.hexdigest()[:16] if found else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that itscale was imported from, ``+`` where it has changes."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        words = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
