"""``load``: a bundled model by name, or a diffusers pipeline as an object, a folder or a hub id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError, UnknownName, did_you_mean
from itscale.models.base import Model
from itscale.models.bundled import BUNDLED


def load(name: Any, *, allow_download: bool = False, **options: Any) -> Model:
    """Load a bundled model, or make a model of a diffusers pipeline.

    Args:
        name: a name that ``itscale models`` lists; a folder with a ``model_index.json``; a hub id
            ``owner/model``, which the network is asked for only with ``allow_download``; or a pipeline
            object, with whatever was loaded into it.
        allow_download: whether a hub id may be fetched; otherwise the local cache is all there is.
        options: for pipelines: ``dtype`` (``"float16"``, ...) and ``variant`` of the files, and the fields of
        the
            family's adapter, such as ``height``, ``width``, ``negative_prompt``; see ``models.pipelines``.

    Raises:
        UnknownName: for a text that is neither, or an option that the model does not take.
        ConfigError: for a folder that lacks parts, a pipeline class without an adapter, or an option that
            cannot work.
        MissingExtra: for a folder or a hub id without diffusers.
    """
    if isinstance(name, Path) or (isinstance(name, str) and is_place(name)):
        from itscale.models.pipelines.opening import open_pipeline

        opening = {key: options.pop(key) for key in ("dtype", "variant") if key in options}
        return _adapted(open_pipeline(str(name), allow_download=allow_download, **opening), options)
    if isinstance(name, str):
        return _bundled(name, options)
    if is_pipeline(name):
        return _adapted(name, options)
    raise ConfigError(
        f"load takes the name of a bundled model ({', '.join(BUNDLED)}), the folder or hub id of a diffusers "
        f"pipeline, or a pipeline object, got {type(name).__name__}; make a model of a network with "
        "itscale.models.wrap"
    )


def is_pipeline(value: Any) -> bool:
    """Whether a value looks like a diffusers pipeline."""
    return hasattr(value, "components") and hasattr(value, "scheduler")


def is_place(name: str) -> bool:
    """Whether a text names a folder or a model of the hub rather than a bundled model."""
    return "/" in name or os.sep in name or (name.strip() != "" and Path(name).is_dir())


def _adapted(pipe: Any, options: dict[str, Any]) -> Model:
    from itscale.models.pipelines import adapt

    return adapt(pipe, **options)


def _bundled(name: str, options: dict[str, Any]) -> Model:
    key = name.strip().lower().replace("_", "-")
    if key not in BUNDLED:
        raise UnknownName(
            f"unknown model {name!r}.{did_you_mean(key, BUNDLED)} Bundled: {', '.join(sorted(BUNDLED))}. "
            "A folder or hub id of a pipeline has a slash; make a model of a network of your own with "
            "itscale.models.wrap"
        )
    if options:
        raise UnknownName(
            f"unknown option {next(iter(options))!r} of the bundled model {key!r}, which takes none"
        )
    return BUNDLED[key].load()
