"""The commands by name, and the options that come before them."""

from __future__ import annotations

from typing import Annotated

import typer

from itscale import __version__
from itscale.cli import (
    advising,
    checking,
    clustering,
    comparing,
    diagnosis,
    listing,
    reporting,
    running,
    serving,
    sweeping,
    verifying,
)
from itscale.cli.group import Group

app = typer.Typer(
    cls=Group,
    name="itscale",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Inference-time scaling and guided sampling for diffusion and flow models. Start with: itscale demo",
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"itscale {__version__}")
        raise typer.Exit


_VERSION = typer.Option(
    "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
)
_DEBUG = typer.Option("--debug", help="Show the traceback of an error.")


@app.callback()
def options(version: Annotated[bool, _VERSION] = False, debug: Annotated[bool, _DEBUG] = False) -> None:
    """Options before the command; ``--debug`` is taken out in ``Group.main``, wherever it stands."""


_RUN, _LOOK, _CHECK = "Run", "Look up", "Check"

app.command("run", rich_help_panel=_RUN)(running.run)
app.command("demo", rich_help_panel=_RUN)(running.demo)
app.command("sweep", rich_help_panel=_RUN)(sweeping.sweep)
app.command("advise", rich_help_panel=_RUN)(advising.advise)
app.command("report", rich_help_panel=_RUN)(reporting.report)
app.command("compare", rich_help_panel=_RUN)(comparing.compare)
app.command("rewards", rich_help_panel=_LOOK)(listing.rewards)
app.command("methods", rich_help_panel=_LOOK)(listing.methods)
app.command("models", rich_help_panel=_LOOK)(listing.models)
app.command("solvers", rich_help_panel=_LOOK)(listing.solvers)
app.command("values", rich_help_panel=_LOOK)(listing.values)
app.command("check-reward", rich_help_panel=_CHECK)(checking.check_reward)
app.command("serve-reward", rich_help_panel=_RUN)(serving.serve_reward)
app.command("verify", rich_help_panel=_CHECK)(verifying.verify)
app.command("doctor", rich_help_panel=_CHECK)(diagnosis.doctor)
app.add_typer(clustering.cluster, name="cluster", rich_help_panel=_CHECK)
