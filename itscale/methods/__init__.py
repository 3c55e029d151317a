"""Methods: one file each, one line each in the table."""

from itscale.errors import ConfigError, unknown_name
from itscale.methods.afdps import AFDPS
from itscale.methods.alive import Alive
from itscale.methods.base import Claim, Cost, Method, Needs, Plan, State
from itscale.methods.beam import Beam
from itscale.methods.best_of_n import BestOfN
from itscale.methods.code import CoDe
from itscale.methods.conjugate import ConjugateSMC, conditioning_grid
from itscale.methods.cts import CTS
from itscale.methods.das import DAS
from itscale.methods.ddsmc import DDSMC
from itscale.methods.dno import DNO
from itscale.methods.dts import DTS
from itscale.methods.dts_star import DTSStar
from itscale.methods.enkg import EnKG
from itscale.methods.epsilon_greedy import EpsilonGreedy
from itscale.methods.fkc import FKC
from itscale.methods.fps import FPS
from itscale.methods.funnel import Funnel
from itscale.methods.gibbs import ParticleGibbs
from itscale.methods.guided import Guided
from itscale.methods.guided_nearby import LGDMC, TMPD, PiGDM
from itscale.methods.guided_uphill import DPS, MPGD, TFG, UGD, FreeDoM
from itscale.methods.importance import ImportanceSampling
from itscale.methods.lidar import LiDAR
from itscale.methods.nested_smc import NestedSMC
from itscale.methods.noise_ascent import ZeroOrder
from itscale.methods.path_search import PathSearch
from itscale.methods.pnp_dm import PnPDM
from itscale.methods.profile import Profile
from itscale.methods.psi_smc import PsiSMC
from itscale.methods.rbf import RBF
from itscale.methods.red_diff import REDDiff
from itscale.methods.redraw import Redraw
from itscale.methods.reno import ReNO
from itscale.methods.restart_smc import RestartSMC
from itscale.methods.restored import DAPS, DDNM, DDRM, DiffPIR, Restored
from itscale.methods.smc import SMC
from itscale.methods.smc_diff import SMCDiff
from itscale.methods.svdd import SVDD
from itscale.methods.tds import TDS
from itscale.methods.twisted import TwistedSMC
from itscale.methods.unguided import Unguided
from itscale.methods.vasr_max import VASRMax
from itscale.methods.verifier_threshold import VerifierThreshold
from itscale.methods.waste_free import WasteFreeSMC
from itscale.methods.zero_order import ZeroOrderSearch

METHODS: dict[str, type] = {
    "unguided": Unguided,
    "best-of-n": BestOfN,
    "importance": ImportanceSampling,
    "alive": Alive,
    "smc": SMC,
    "nested-smc": NestedSMC,
    "svdd": SVDD,
    "twisted-smc": TwistedSMC,
    "tds": TDS,
    "das": DAS,
    "cts": CTS,
    "lidar": LiDAR,
    "code": CoDe,
    "beam": Beam,
    "rbf": RBF,
    "fkc": FKC,
    "dts": DTS,
    "dts-star": DTSStar,
    "particle-gibbs": ParticleGibbs,
    "zero-order": ZeroOrderSearch,
    "search-over-paths": PathSearch,
    "epsilon-greedy": EpsilonGreedy,
    "reno": ReNO,
    "dno": DNO,
    "restart-smc": RestartSMC,
    "funnel": Funnel,
    "vasr-max": VASRMax,
    "waste-free-smc": WasteFreeSMC,
    "psi-smc": PsiSMC,
    "verifier-threshold": VerifierThreshold,
    "dps": DPS,
    "pigdm": PiGDM,
    "tmpd": TMPD,
    "lgd-mc": LGDMC,
    "mpgd": MPGD,
    "freedom": FreeDoM,
    "ugd": UGD,
    "tfg": TFG,
    "conjugate-smc": ConjugateSMC,
    "afdps": AFDPS,
    "ddnm": DDNM,
    "ddrm": DDRM,
    "diffpir": DiffPIR,
    "daps": DAPS,
    "pnp-dm": PnPDM,
    "fps": FPS,
    "smc-diff": SMCDiff,
    "ddsmc": DDSMC,
    "red-diff": REDDiff,
    "enkg": EnKG,
}


def get_method(value: str | Method) -> Method:
    """Return a method by name (with its defaults) or pass one through."""
    if isinstance(value, str):
        name = value.lower().replace("_", "-")
        if name not in METHODS:
            raise unknown_name("method", value, METHODS, "itscale methods")
        return METHODS[name]()
    if not hasattr(value, "step"):
        raise ConfigError(f"method must be a name or a method such as SMC(particles=16), got {value!r}")
    return value


__all__ = [
    "AFDPS",
    "CTS",
    "DAPS",
    "DAS",
    "DDNM",
    "DDRM",
    "DDSMC",
    "DNO",
    "DPS",
    "DTS",
    "FKC",
    "FPS",
    "LGDMC",
    "METHODS",
    "MPGD",
    "RBF",
    "SMC",
    "SVDD",
    "TDS",
    "TFG",
    "TMPD",
    "UGD",
    "Alive",
    "Beam",
    "BestOfN",
    "Claim",
    "CoDe",
    "ConjugateSMC",
    "Cost",
    "DTSStar",
    "DiffPIR",
    "EnKG",
    "EpsilonGreedy",
    "FreeDoM",
    "Funnel",
    "Guided",
    "ImportanceSampling",
    "LiDAR",
    "Method",
    "Needs",
    "NestedSMC",
    "ParticleGibbs",
    "PathSearch",
    "PiGDM",
    "Plan",
    "PnPDM",
    "Profile",
    "PsiSMC",
    "REDDiff",
    "ReNO",
    "Redraw",
    "RestartSMC",
    "Restored",
    "SMCDiff",
    "State",
    "TwistedSMC",
    "Unguided",
    "VASRMax",
    "VerifierThreshold",
    "WasteFreeSMC",
    "ZeroOrder",
    "ZeroOrderSearch",
    "conditioning_grid",
    "get_method",
]
