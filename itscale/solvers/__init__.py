"""Solvers: settings that become kernels. One file each; one line each in the table."""

from itscale.errors import ConfigError, unknown_name
from itscale.solvers.adaptive import AdaptiveDPM
from itscale.solvers.ancestral import Ancestral
from itscale.solvers.ancestral_2s import Ancestral2S
from itscale.solvers.base import Kernel, Move, Solver, Surroundings, is_silent, placed, remembered, shares_of
from itscale.solvers.churn import Churn
from itscale.solvers.ddim import DDIM
from itscale.solvers.deis import DEIS, LMS
from itscale.solvers.dpm_sde import DPMSDE
from itscale.solvers.dpm_solver import DPMSolver2, DPMSolver3S
from itscale.solvers.dpm_solver_2m import SDE2M, DPMSolver2M
from itscale.solvers.dpm_solver_2s import DPMSolver2S
from itscale.solvers.dpm_solver_3m import DPMSolver3M, Legacy3M
from itscale.solvers.dpm_solver_3m_sde import SDE3M
from itscale.solvers.dpm_solver_v3 import DPMSolverV3
from itscale.solvers.dual_fast import DualFast
from itscale.solvers.euler_maruyama import EulerMaruyama
from itscale.solvers.evodiff import EVODiff
from itscale.solvers.glass import Glass
from itscale.solvers.gm_ode import GMODE
from itscale.solvers.gm_sde import GMSDE
from itscale.solvers.heun import Heun, SDEHeun
from itscale.solvers.ipndm import IPNDM
from itscale.solvers.langevin import Langevin
from itscale.solvers.langevin_move import LangevinMove
from itscale.solvers.model_statistics import ModelStatistics
from itscale.solvers.momentum import GHVB, HeavyBall, Nesterov
from itscale.solvers.noise_2m_sde import NoiseSDE2M
from itscale.solvers.pndm import PNDM
from itscale.solvers.restart import Interval, Restart
from itscale.solvers.restart_presets import RESTART_PRESETS, RestartPreset, restart_preset
from itscale.solvers.runge_kutta import RK4, EDMHeun
from itscale.solvers.scheduled import Choice, Scheduled
from itscale.solvers.solver_schedule import SolverSchedule
from itscale.solvers.time_shift import TimeShift
from itscale.solvers.unipc import UniP, UniPC

SOLVERS: dict[str, type] = {
    "ddim": DDIM,
    "heun": Heun,
    "dpm++2m": DPMSolver2M,
    "euler-maruyama": EulerMaruyama,
    "ancestral": Ancestral,
    "2m-sde": SDE2M,
    "sde-heun": SDEHeun,
    "edm-heun": EDMHeun,
    "dpm-2": DPMSolver2,
    "dpm-3s": DPMSolver3S,
    "dpm++2s": DPMSolver2S,
    "dpm++3m": DPMSolver3M,
    "legacy-3m": Legacy3M,
    "unip": UniP,
    "unipc": UniPC,
    "deis": DEIS,
    "lms": LMS,
    "ipndm": IPNDM,
    "ghvb": GHVB,
    "heavy-ball": HeavyBall,
    "nesterov": Nesterov,
    "pndm": PNDM,
    "rk4": RK4,
    "scheduled": Scheduled,
    "adaptive-dpm": AdaptiveDPM,
    "3m-sde": SDE3M,
    "noise-2m-sde": NoiseSDE2M,
    "2s-ancestral": Ancestral2S,
    "dpm++sde": DPMSDE,
    "langevin": Langevin,
    "glass": Glass,
    "edm-churn": Churn,
    "gm-ode": GMODE,
    "gm-sde": GMSDE,
    "restart": Restart,
}
ALIASES = {"euler": "ddim", "dpm-solver++2m": "dpm++2m", "em": "euler-maruyama", "ddpm": "ancestral"}
ALIASES |= {"sde-dpm++1": "ancestral", "dpm++2m-sde": "2m-sde", "dpm++3m-sde": "3m-sde", "pc": "langevin"}


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
    "DEIS",
    "DPMSDE",
    "GHVB",
    "GMODE",
    "GMSDE",
    "IPNDM",
    "LMS",
    "PNDM",
    "RESTART_PRESETS",
    "RK4",
    "SDE2M",
    "SDE3M",
    "SOLVERS",
    "AdaptiveDPM",
    "Ancestral",
    "Ancestral2S",
    "Choice",
    "Churn",
    "DPMSolver2",
    "DPMSolver2M",
    "DPMSolver2S",
    "DPMSolver3M",
    "DPMSolver3S",
    "DPMSolverV3",
    "DualFast",
    "EDMHeun",
    "EVODiff",
    "EulerMaruyama",
    "Glass",
    "HeavyBall",
    "Heun",
    "Interval",
    "Kernel",
    "Langevin",
    "LangevinMove",
    "Legacy3M",
    "ModelStatistics",
    "Move",
    "Nesterov",
    "NoiseSDE2M",
    "Restart",
    "RestartPreset",
    "SDEHeun",
    "Scheduled",
    "Solver",
    "SolverSchedule",
    "Surroundings",
    "TimeShift",
    "UniP",
    "UniPC",
    "get_solver",
    "is_silent",
    "placed",
    "remembered",
    "restart_preset",
    "shares_of",
]
