"""Solvers: settings that become kernels. One file each; one line each in the table."""

from itscale.errors import ConfigError, unknown_name
from itscale.solvers.ancestral import Ancestral
from itscale.solvers.base import Kernel, Move, Solver
from itscale.solvers.ddim import DDIM
from itscale.solvers.dpm_solver_2m import SDE2M, DPMSolver2M
from itscale.solvers.euler_maruyama import EulerMaruyama
from itscale.solvers.heun import Heun, SDEHeun

SOLVERS: dict[str, type] = {
    "ddim": DDIM,
    "heun": Heun,
    "dpm++2m": DPMSolver2M,
    "euler-maruyama": EulerMaruyama,
    "ancestral": Ancestral,
    "2m-sde": SDE2M,
    "sde-heun": SDEHeun,
}
ALIASES = {"euler": "ddim", "dpm-solver++2m": "dpm++2m", "em": "euler-maruyama", "ddpm": "ancestral"}


def get_solver(value: str | Solver) -> Solver:
    """Return a solver by name or pass one through."""
    if isinstance(value, str):
        name = value.lower().replace("_", "-")
        name = ALIASES.get(name, name)
        if name not in SOLVERS:
            raise unknown_name("solver", value, [*SOLVERS, *ALIASES], "itscale solvers")
        return SOLVERS[name]()
    if not hasattr(value, "build"):
        raise ConfigError(f"solver must be a name or a solver such as Heun(), got {value!r}")
    return value


__all__ = [
    "DDIM",
    "SDE2M",
    "SOLVERS",
    "Ancestral",
    "DPMSolver2M",
    "EulerMaruyama",
    "Heun",
    "Kernel",
    "Move",
    "SDEHeun",
    "Solver",
    "get_solver",
]
