"""Docking scores by a program or a function of one's own."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itscale.errors import ConfigError
from itscale.scoring.names import load_reference
from itscale.task_pool import Outcome

from .declare import built_in
from .molecule import MoleculeReward, parsed

ALONE = r"(?<!\S)([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\S)"
"""A number between blanks: a SMILES text has digits too."""


@built_in("docking")
@dataclass(frozen=True)
class Docking(MoleculeReward):
    """``max(-energy, 0)`` of a docking program: the deeper the molecule sits, the higher the score.

    A program that fails, runs too long or prints no energy leaves its molecule without a score, and says why.

    Args:
        command: a command line, one process a molecule and no shell. ``{smiles}`` stands for the molecule,
            ``{ligand}`` for an SDF file with a conformation by RDKit, ``{folder}`` for a folder that is
            removed afterwards.
        function: instead, ``"module:attribute"`` or ``"file.py:attribute"``: a function of a SMILES text that
            returns an energy. It runs in processes of its own.
        pattern: regular expression with one group, the energy, searched in what the command prints; the last
            match counts. Default: the last number between blanks.
        lower_is_better: False takes what comes as the score, unclipped.
        workers: molecules at a time.
        seconds: the longest that one may take; a command is then ended with all its children.

    Raises:
        ConfigError: for a program that is not there, a function that cannot be found, both, or neither.

    Reference:
        Trott and Olson (2010), "AutoDock Vina", J. Comput. Chem. 31:455; clipped as by Lee et al. (2023),
        "Exploring Chemical Space with Score-based Out-of-distribution Generation", arXiv:2206.07632.
    """

    command: str = ""
    function: str = ""
    pattern: str = ALONE
    lower_is_better: bool = True
    workers: int = field(default=1, kw_only=True)
    seconds: float = field(default=60.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.command) == bool(self.function):
            raise ConfigError("reward 'docking' needs either command= or function=")
        if self.workers < 1:
            raise ConfigError(f"reward 'docking': workers must be at least 1, got {self.workers}")
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ConfigError(
                f"reward 'docking': pattern {self.pattern!r} is no regular expression: {error}"
            ) from error
        if groups != 1:
            raise ConfigError(f"reward 'docking': pattern {self.pattern!r} needs one group, the energy")
        if self.command:
            _check_command(self.command)
        elif not callable(load_reference(self.function)):
            raise ConfigError(f"reward 'docking': function {self.function!r} cannot be called")

    def measure(self, molecule: Any) -> float:
        from rdkit import Chem

        return self._score(float(load_reference(self.function)(Chem.MolToSmiles(molecule))))

    def _measured(self, texts: list[str]) -> list[Outcome]:
        if self.function:
            return super()._measured(texts)
        with ThreadPoolExecutor(self.workers) as threads:
            return list(threads.map(self._docked, texts))

    def _docked(self, text: str) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="itscale-docking-") as folder:
            try:
                ligand = _conformation(text, Path(folder)) if "{ligand}" in self.command else ""
            except RuntimeError as error:
                return Outcome(None, str(error))
            filled = {"smiles": text, "ligand": ligand, "folder": folder}
            words = [_fill(word, filled) for word in shlex.split(self.command)]
            printed, reason = _run(words, self.seconds)
        if reason:
            return Outcome(None, reason)
        found = re.findall(self.pattern, printed)
        if not found:
            return Outcome(None, f"no energy in what the command printed: {printed.strip()[-80:]!r}")
        try:
            score = self._score(float(found[-1]))
        except ValueError:
            return Outcome(None, f"{found[-1]!r} is no number")
        return Outcome(score) if math.isfinite(score) else Outcome(None, f"the score is {score}")

    def _score(self, energy: float) -> float:
        return max(-energy, 0.0) if self.lower_is_better else energy


def _check_command(command: str) -> None:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"reward 'docking': command {command!r} cannot be read: {error}") from error
    if not words or shutil.which(words[0]) is None:
        raise ConfigError(
            f"reward 'docking': there is no program {(words or [''])[0]!r}; install it, or give its full path"
        )
    if not any(f"{{{name}}}" in word for word in words for name in ("smiles", "ligand")):
        raise ConfigError(
            f"reward 'docking': command {command!r} gets no molecule; put {{smiles}} or {{ligand}} in it"
        )


def _fill(word: str, filled: dict[str, str]) -> str:
    """Replace names in braces; other braces stay as they are."""
    return re.sub(r"\{(smiles|ligand|folder)\}", lambda match: filled[match[1]], word)


def _run(words: list[str], seconds: float) -> tuple[str, str]:
    """What a command printed, and why there is nothing to read."""
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return "", f"the command cannot start: {error}"
    try:
        printed, complaint = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # children too, which may hold the pipes open
        process.communicate()
        return "", f"the command took longer than {seconds:g} seconds"
    if process.returncode:
        last = (complaint.strip() or printed.strip()).splitlines()[-1:]
        return "", f"the command ended with {process.returncode}: {' '.join(last)[-120:]}"
    return printed, ""


def _conformation(text: str, folder: Path) -> str:
    """Write a molecule with hydrogens and coordinates; the same ones every time."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    molecule = Chem.AddHs(parsed(text))
    if rdDistGeom.EmbedMolecule(molecule, randomSeed=1) != 0:
        raise RuntimeError("RDKit finds no conformation")
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.MMFFOptimizeMolecule(molecule)
    file = folder / "ligand.sdf"
    with Chem.SDWriter(str(file)) as writer:
        writer.write(molecule)
    return str(file)
