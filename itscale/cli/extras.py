"""Optional packages: which extra holds them, and whether they are there. Nothing is imported to find out."""

from __future__ import annotations

import importlib.metadata
import importlib.util

EXTRAS: dict[str, dict[str, str]] = {
    "report": {"matplotlib": "matplotlib", "scipy": "scipy", "jinja2": "jinja2", "pyarrow": "pyarrow"},
    "images": {
        "open-clip-torch": "open_clip",
        "diffusers": "diffusers",
        "transformers": "transformers",
        "accelerate": "accelerate",
    },
    "molecules": {"rdkit": "rdkit", "selfies": "selfies"},
    "inverse": {"deepinv": "deepinv"},
    "cluster": {"ray": "ray"},
    "image-reward": {"image-reward": "ImageReward"},
}
"""Extra -> distribution -> module that it brings; as in pyproject.toml."""

CORE: dict[str, str] = {
    "torch": "torch",
    "numpy": "numpy",
    "jaxtyping": "jaxtyping",
    "safetensors": "safetensors",
    "pydantic": "pydantic",
    "typer": "typer",
    "rich": "rich",
    "PyYAML": "yaml",
    "pillow": "PIL",
    "platformdirs": "platformdirs",
}
"""Distribution -> module of what every installation has."""


def is_present(module: str) -> bool:
    """Whether a top-level module could be imported."""
    return importlib.util.find_spec(module) is not None


def missing_from(extra: str) -> list[str]:
    """The distributions of an extra that are absent; an unknown extra has none."""
    return [name for name, module in EXTRAS.get(extra, {}).items() if not is_present(module)]


def pip_line(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'itscale[{extra}]'"


def version_of(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
