"""Decoders: how a masked model reveals its tokens. One file each, one line each in the table."""

from itscale.decoders.ancestral import AncestralTokens
from itscale.decoders.base import Decoder, TokenKernel, TokenMove
from itscale.decoders.bounded import EarlyCommit, EntropyBounded
from itscale.decoders.energy import EnergyImportance
from itscale.decoders.events import Confidence, FirstHitting
from itscale.decoders.greedy import Greedy, Saber
from itscale.decoders.guided import GuidedTokens, straight_through
from itscale.decoders.jumps import JumpRates, Jumps
from itscale.decoders.maskgit import MaskGIT
from itscale.decoders.remasking import ReMDM
from itscale.decoders.sharpening import Sharpening
from itscale.decoders.uniform_noise import UniformNoise
from itscale.errors import ConfigError, unknown_name

DECODERS: dict[str, type] = {
    "first-hitting": FirstHitting,
    "confidence": Confidence,
    "ancestral": AncestralTokens,
    "entropy-bounded": EntropyBounded,
    "early-commit": EarlyCommit,
    "remdm": ReMDM,
    "energy": EnergyImportance,
    "guided": GuidedTokens,
    "jumps": Jumps,
    "uniform-noise": UniformNoise,
    "maskgit": MaskGIT,
    "greedy": Greedy,
    "saber": Saber,
}
ALIASES = {"event": "first-hitting", "prophet": "early-commit", "edlm": "energy", "d3pm": "uniform-noise"}


def get_decoder(value: "str | Decoder") -> Decoder:
    """Return a decoder by name or pass one through."""
    if isinstance(value, str):
        name = value.lower().replace("_", "-")
        if name == "prophet":
            return EarlyCommit(inner="greedy", rule="gap")
        name = ALIASES.get(name, name)
        if name not in DECODERS:
            raise unknown_name("solver of a masked model", value, [*DECODERS, *ALIASES])
        if name == "energy":
            raise ConfigError("energy needs a joint model: solver=decoders.EnergyImportance(log_joint=...)")
        if name == "guided":
            raise ConfigError("guided needs its tilts: solver=decoders.GuidedTokens(tilts=...)")
        return DECODERS[name]()
    if not hasattr(value, "has_density"):
        raise ConfigError(
            f"solver of a masked model must be a name or a decoder such as FirstHitting(), got {value!r}"
        )
    return value


__all__ = [
    "DECODERS",
    "AncestralTokens",
    "Confidence",
    "Decoder",
    "EarlyCommit",
    "EnergyImportance",
    "EntropyBounded",
    "FirstHitting",
    "Greedy",
    "GuidedTokens",
    "JumpRates",
    "Jumps",
    "MaskGIT",
    "ReMDM",
    "Saber",
    "Sharpening",
    "TokenKernel",
    "TokenMove",
    "UniformNoise",
    "get_decoder",
    "straight_through",
]
