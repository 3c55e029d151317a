"""``itscale doctor``: what is installed, where it can write, and whether the arithmetic is right."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from itscale.cli.extras import CORE, EXTRAS, is_present, missing_from, pip_line, version_of
from itscale.cli.failures import FAILED
from itscale.cli.output import as_bytes, print_json, print_line, print_table, stdout_kept_clean

Status = Literal["ok", "absent", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; only ``broken`` makes the command fail."""

    what: str
    status: Status
    detail: str


def doctor(
    ray: Annotated[
        bool, typer.Option("--ray", help="Start or join a Ray, and measure what sharding costs.")
    ] = False,
    pool: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The cluster to measure with --ray.", show_default="local")
    ] = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
) -> None:
    """Show versions, devices, extras and folders, and test the arithmetic; fails if something is broken."""
    with stdout_kept_clean():
        findings = [*_versions(), *_devices(), *_extras(), *_folders(), *_self_tests()]
        if ray:
            from itscale.cli.ray_diagnosis import measured

            findings += measured(pool, Finding)
    broken = [f for f in findings if f.status == "broken"]
    if as_json:
        print_json({"ok": not broken, "findings": [asdict(f) for f in findings]})
    else:
        print_table(("", "status", ""), [(f.what, f.status, f.detail) for f in findings])
        print_line(f"{len(broken)} broken" if broken else "The installation works.")
    if broken:
        raise typer.Exit(FAILED)


def _versions() -> list[Finding]:
    from itscale import __version__

    found = [Finding("itscale", "ok", __version__), Finding("python", "ok", platform.python_version())]
    for distribution, module in CORE.items():
        present = is_present(module)
        detail = version_of(distribution) or "version unknown" if present else f"pip install {distribution}"
        found.append(Finding(distribution, "ok" if present else "broken", detail))
    return found


def _devices() -> list[Finding]:
    cores = os.cpu_count() or 1
    try:
        import torch
    except Exception as error:  # a torch that cannot be imported is a finding, whatever it raises
        return [Finding("torch import", "broken", f"{type(error).__name__}: {error}")]
    found = [Finding("cpu", "ok", f"{cores} cores, {torch.get_num_threads()} torch threads")]
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        found.append(Finding(f"cuda:{i}", "ok", f"{facts.name}, {as_bytes(facts.total_memory)}"))
    if torch.backends.mps.is_available():
        found.append(Finding("mps", "ok", "Apple GPU"))
    return found


def _extras() -> list[Finding]:
    found = []
    for extra, packages in EXTRAS.items():
        if missing := missing_from(extra):
            detail = f"{', '.join(missing)}: {pip_line(extra)}"
            found.append(Finding(f"extra {extra}", "absent", detail))
        else:
            detail = ", ".join(f"{name} {version_of(name) or ''}".strip() for name in packages)
            found.append(Finding(f"extra {extra}", "ok", detail))
    return found


def _folders() -> list[Finding]:
    places = {"outputs": Path.cwd() / "outputs"}
    if is_present("platformdirs"):
        import platformdirs

        places = {"cache": Path(platformdirs.user_cache_dir("itscale")), **places}
    return [_writable(name, folder) for name, folder in places.items()]


def _writable(name: str, folder: Path) -> Finding:
    """Write and remove a file in the folder, or in the one it would be made in."""
    existing = next(place for place in (folder, *folder.parents) if place.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Finding(f"{name} folder", "ok", str(folder))
    except OSError as error:
        return Finding(f"{name} folder", "warning", f"{folder} cannot be written: {error.strerror}")


def _self_tests() -> list[Finding]:
    tests: dict[str, Callable[[], None]] = {
        "random numbers": _check_philox,
        "sampling": _check_sampling,
    }
    return [_tried(name, test) for name, test in tests.items()]


def _tried(name: str, test: Callable[[], None]) -> Finding:
    started = time.perf_counter()
    try:
        test()
    except Exception as error:  # whatever it is, it is the finding
        return Finding(name, "broken", f"{type(error).__name__}: {error}")
    return Finding(name, "ok", f"as expected, {time.perf_counter() - started:.2f} s")


def _check_philox() -> None:
    """Compare with the known answers of the authors' library (Random123, kat_vectors)."""
    import torch

    from itscale.noise import philox

    answers = {
        (0, 0, 0, 0, 0, 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        (0xFFFFFFFF,) * 6: (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    }
    for asked, expected in answers.items():
        a, b, c, d, k0, k1 = (torch.tensor([word], dtype=torch.int64) for word in asked)
        got = tuple(int(word) for word in philox((a, b, c, d), (k0, k1)))
        if got != expected:
            raise ArithmeticError(f"Philox gave {[hex(w) for w in got]}, not {[hex(w) for w in expected]}")


def _check_sampling() -> None:
    """Steer a Gaussian, N(0, 1) tilted by x: mean 1, evidence exp(1/2)."""
    import math

    from itscale.methods import SMC
    from itscale.models import GaussianMixture
    from itscale.sampling import sample

    gaussian = GaussianMixture([1.0], [[0.0]], [1.0])
    result = sample(
        gaussian, reward=lambda samples: samples[:, 0], method=SMC(particles=512), steps=8, seed=0
    )
    mean, evidence = result.expect(lambda x: x[:, 0]).value, float(result.log_evidence)
    # standard errors are about 0.05 for both; an unweighted or sign-flipped run is 1 or 2 off
    if not (abs(mean - 1) < 0.3 and abs(evidence - 0.5) < 0.3 and math.isfinite(mean)):
        raise ArithmeticError(f"mean {mean:.3f} and log-evidence {evidence:.3f}, expected 1 and 0.5")
