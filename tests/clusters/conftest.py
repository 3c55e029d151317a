"""The command line, as its own tests call it."""

from tests.cli.conftest import itscale_command

__all__ = ["itscale_command"]
