"""Where the files of a learned reward lie; torch is not needed to look."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from itscale.errors import ConfigError, missing_extra

FOLDER_VARIABLE = "ITSCALE_WEIGHTS"
"""Environment variable that names the folder with one sub-folder of weights per reward."""


class MissingWeights(ConfigError):
    """A file that a learned reward needs is in none of the places where it is looked for."""


@dataclass(frozen=True)
class Weights:
    """The files that one reward needs, and where they come from.

    Args:
        reward: name of the reward.
        files: paths inside the folder, all needed. A group ``"a|b"`` needs one of its members.
        licence: of the weights.
        hub: repository on the Hugging Face hub that holds them, used only when a download is allowed.
        size: for the message, e.g. ``"1.8 GB"``.
        elsewhere: other folders where a published package keeps them.
        argument: of the reward, by which a user names the folder.
        subfolder: of the folder of weights; that of the reward by default.
    """

    reward: str
    files: tuple[str, ...]
    licence: str
    hub: str | None = None
    size: str = ""
    elsewhere: tuple[str, ...] = ()
    argument: str = "weights"
    subfolder: str | None = None

    def file(self, given: str | os.PathLike[str] | None = None, allow_download: bool = False) -> Path:
        """Return the single file that is needed, under whatever name the user gives.

        Raises:
            MissingWeights: as ``folder`` does.
        """
        if given is not None and Path(given).expanduser().is_file():
            return Path(given).expanduser()
        place = self.folder(given, allow_download)
        return next(place / name for name in self.files[0].split("|") if (place / name).is_file())

    def folder(self, given: str | os.PathLike[str] | None = None, allow_download: bool = False) -> Path:
        """Return a folder that holds all files.

        Args:
            given: where the user says they are; nothing else is looked at then.
            allow_download: fetch them from the hub if they are nowhere; else nothing is downloaded.

        Raises:
            MissingWeights: naming files, places, licence and what to do.
        """
        places = self.places(given)
        for place in places:
            if not self.missing(place):
                return place
        cached = None if given is not None else self._from_hub(allow_download)
        if cached is not None and not self.missing(cached):
            return cached
        raise MissingWeights(self._message(given, places))

    def places(self, given: str | os.PathLike[str] | None = None) -> list[Path]:
        """The folders that are looked at, in order."""
        if given is not None:
            return [Path(given).expanduser()]
        own = base_folder() / (self.subfolder or self.reward)
        return [own, *(Path(p).expanduser() for p in self.elsewhere)]

    def missing(self, place: Path) -> list[str]:
        """The files that a folder lacks."""
        return [f for f in self.files if not any((place / name).is_file() for name in f.split("|"))]

    def is_found(self) -> bool:
        """Whether the files are in one of the usual places."""
        return any(not self.missing(place) for place in self.places())

    def _from_hub(self, allow_download: bool) -> Path | None:
        """The snapshot in the hub's cache, downloaded if that is allowed."""
        if self.hub is None:
            return None
        return hub_folder(self.hub, [n for f in self.files for n in f.split("|")], allow_download)

    def _message(self, given: object, places: list[Path]) -> str:
        size = f", {self.size}" if self.size else ""
        listed = ", ".join(f.replace("|", " or ") for f in self.files)
        near = f" (there: {_contents(places[0])})" if given is not None else ""
        looked = ", ".join(str(place) for place in places)
        hub = f", or allow_download=True to fetch them from the hub ({self.hub})" if self.hub else ""
        return (
            f"reward {self.reward!r} needs {listed} (licence of the weights: {self.licence}{size}), which is "
            f"not in {looked}{near}; put the files there, or give {self.argument}=PATH{hub}"
        )


def base_folder() -> Path:
    """The folder with one sub-folder of weights per reward."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("itscale")) / "weights"


def hub_folder(repository: str, files: Sequence[str], allow_download: bool) -> Path | None:
    """The snapshot folder of a hub repository, or None if it is not there.

    Args:
        repository: ``owner/name``.
        files: what to fetch.
        allow_download: without it only the local cache is read.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        if allow_download:
            raise missing_extra("huggingface_hub", "images", "downloading weights") from error
        return None
    try:
        return Path(
            snapshot_download(repository, allow_patterns=list(files), local_files_only=not allow_download)
        )
    except LocalEntryNotFoundError:
        return None


def _contents(place: Path) -> str:
    if place.is_file():
        return "that is a single file"
    if not place.is_dir():
        return "no such folder"
    names = sorted(path.name for path in place.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "an empty folder"
