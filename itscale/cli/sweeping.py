"""``itscale sweep``: many cells on one machine or a cluster, and how far they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from itscale.cli.early import ending_early
from itscale.cli.output import as_duration, print_json, print_line, print_table, stdout_kept_clean
from itscale.cli.running import DryRun, Json, Out, Resume, Work, execute
from itscale.errors import ConfigError

if TYPE_CHECKING:
    from itscale.runs import RunStatus
    from itscale.runs.cluster import Cluster
    from itscale.runs.tasks import Share

Source = Annotated[
    str, typer.Argument(metavar="FILE.yaml|DIR", help="A file, a recipe's name, or a sweep's folder.")
]
SweepOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=A,B,C]...",
        help="Settings laid over it; several values are swept over, e.g. run.seed=0,1,2.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that compute.", show_default="one per GPU, or per core without one"),
]
Threads = Annotated[
    int | None,
    typer.Option(help="Torch threads of each.", show_default="cores divided by workers; 1 on a cluster"),
]
SweepPool = Annotated[
    str | None,
    typer.Option(
        "--pool",
        metavar="local|ray|ADDRESS",
        help="Where workers are: processes, a Ray of the sweep's own, or the cluster at HOST:PORT or auto.",
        show_default="local",
    ),
]
Gpus = Annotated[
    float | None,
    typer.Option(help="GPUs of each worker on a cluster, fractions too.", show_default="1 if it has any"),
]
Array = Annotated[
    str | None,
    typer.Option(
        metavar="K/N|slurm",
        help="Compute every N-th cell from the K-th on, as a task of a job array that shares --out.",
        show_default=False,
    ),
]
Status = Annotated[bool, typer.Option("--status", help="Say how far the sweep is, from its files, and stop.")]


def sweep(
    source: Source,
    overrides: SweepOverrides = None,
    out: Out = None,
    workers: Workers = None,
    threads: Threads = None,
    pool: SweepPool = None,
    gpus: Gpus = None,
    array: Array = None,
    resume: Resume = False,
    status: Status = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run every combination of the swept settings, several at once, into one folder."""
    folder = Path(source)
    is_folder = (folder / "config.yaml").is_file()
    if status:
        _print_status(_folder(source, overrides or [], out, is_folder), as_json)
        return
    if is_folder:
        source, out = str(folder / "config.yaml"), out or folder
    work = Work(source, overrides or [], out, resume, dry_run, as_json, ["sweep", source], is_sweep=True)
    if dry_run:
        execute(work)
        return
    given = {"--workers": workers, "--threads": threads, "--pool": pool, "--gpus": gpus, "--array": array}
    options = [word for name, value in given.items() if value is not None for word in (name, f"{value}")]
    with ending_early():
        cluster, share = _cluster(pool, gpus), _share(array)
        execute(work, options, workers=workers, threads=threads, cluster=cluster, share=share)


def _share(array: str | None) -> Share | None:
    if array is None:
        return None
    with stdout_kept_clean():
        from itscale.runs.tasks import Share

        return Share.read(array)


def _cluster(pool: str | None, gpus: float | None) -> Cluster | None:
    if pool not in (None, "local"):
        with stdout_kept_clean():
            from itscale.runs.cluster import Cluster

            return Cluster.named(pool, gpus)
    if gpus is not None:
        raise ConfigError("--gpus shares out a cluster's GPUs; give --pool ray or an address with it")
    return None


def _folder(source: str, overrides: list[str], out: Path | None, is_folder: bool) -> Path:
    """The folder that a sweep went into: the one named, or the newest of this configuration."""
    if is_folder or out is not None:
        return out or Path(source)
    from itscale import runs
    from itscale.runs.store import choose_folder

    with stdout_kept_clean():
        return choose_folder(runs.load_config(source, overrides, sweep=True), None, resume=True)


def _print_status(folder: Path, as_json: bool) -> None:
    from itscale import runs
    from itscale.runs.records import clean

    with stdout_kept_clean():
        found = runs.status(folder)
    if as_json:
        print_json(clean({**asdict(found), "folder": str(found.folder)}))
        return
    print_line(_sentence(found))
    if found.running:
        title = "Computing now" if found.state == "running" else "Were under way and will start again"
        rows = [(cell.label, f"{cell.level} of {cell.steps}") for cell in found.running]
        print_table(("cell", "step"), rows, title)
    for failure in found.failed:
        print_line(f"failed: {failure['label']}: {failure['error']}")


def _sentence(found: RunStatus) -> str:
    state = {
        "running": f"running in process {found.process}",
        "done": "complete",
        "stopped": "stopped; --resume goes on",
    }[found.state]
    text = (
        f"{found.folder}: {found.finished} of {found.cells} cells done, {len(found.failed)} failed; {state}"
    )
    text += f"\n{as_duration(found.seconds)} of computing done"
    if found.seconds_left:
        text += f", about {as_duration(found.seconds_left)} left, shared by the workers"
    return text
