"""``check_text``: what is wrong with a cluster's file, as a list with places and reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from itscale.errors import ConfigError, did_you_mean

Kind = Literal["launcher", "RayCluster", "RayJob", "RayService", "sbatch"]


@dataclass(frozen=True)
class Problem:
    """One thing to change.

    Attributes:
        place: dotted path or line in the file.
        what: what is wrong there, and what to write instead.
        rule: ``schema``, ``security`` or ``conduct`` (works, and wastes machines or loses work).
    """

    place: str
    what: str
    rule: Literal["schema", "security", "conduct"]


def check_text(text: str, name: str) -> list[Problem]:
    """Return everything that is wrong with a file; nothing is asked or started.

    Args:
        text: of a cluster launcher's YAML, a KubeRay object, or a SLURM script.
        name: of the file, for its ending.

    Raises:
        ConfigError: if it is none of these.
    """
    from itscale.clusters import kuberay, launcher, sbatch

    kind, document = _read(text, name)
    if kind == "sbatch":
        return list(sbatch.problems(text))
    found = launcher.problems(document) if kind == "launcher" else kuberay.problems(document, kind)
    return list(found)


def kind_of(text: str, name: str) -> Kind:
    """Return what a file is.

    Raises:
        ConfigError: if it is nothing known.
    """
    return _read(text, name)[0]


def _read(text: str, name: str) -> tuple[Kind, Any]:
    if text.startswith("#!"):
        if "#SBATCH" not in text:
            raise ConfigError(f"{name} is a script without #SBATCH lines; only SLURM scripts are known")
        return "sbatch", None
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{where} is not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{name} holds no mapping; it should be one cluster's file")
    if "apiVersion" in document or "kind" in document:
        known = ("RayCluster", "RayJob", "RayService")
        kind = str(document.get("kind"))
        if kind not in known:
            close = did_you_mean(kind, known)
            raise ConfigError(f"{name} has kind {kind!r}.{close} Known: {', '.join(known)}")
        return kind, document  # type: ignore[return-value]
    if "cluster_name" not in document:
        raise ConfigError(
            f"{name} is no cluster's file: a launcher's has cluster_name, KubeRay's kind, SLURM's #SBATCH"
        )
    return "launcher", document


def fits(document: Any, schema: dict[str, Any]) -> Iterator[Problem]:
    """Compare a document with a schema; unknown keys come with close ones.

    Raises:
        MissingExtra: without ``jsonschema``, which comes with Ray.
    """
    from itscale.errors import missing_extra

    try:
        import jsonschema
    except ImportError as error:
        raise missing_extra("jsonschema", "cluster", "checking a cluster's file") from error
    for error in sorted(jsonschema.Draft7Validator(schema).iter_errors(document), key=lambda e: list(e.path)):
        place = ".".join(str(part) for part in error.absolute_path) or "the file"
        if error.validator == "additionalProperties" and isinstance(error.schema, dict):
            known = sorted(error.schema.get("properties", {}))
            for key in sorted(set(error.instance) - set(known)):
                yield Problem(place, f"unknown key {key!r}.{did_you_mean(key, known)}".rstrip("."), "schema")
        else:
            yield Problem(place, error.message, "schema")
