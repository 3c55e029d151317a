"""Decoders: how a masked model reveals its tokens. One file each, one line each in the table."""

from itscale.decoders.ancestral import AncestralTokens
from itscale.decoders.base import Decoder, TokenKernel, TokenMove
from itscale.decoders.events import Confidence, FirstHitting
from itscale.decoders.sharpening import Sharpening
from itscale.errors import ConfigError, unknown_name

DECODERS: dict[str, type] = {
    "first-hitting": FirstHitting,
    "confidence": Confidence,
    "ancestral": AncestralTokens,
}


def get_decoder(value: "str | Decoder") -> Decoder:
    """Return a decoder by name or pass one through."""
    if isinstance(value, str):
        name = value.lower().replace("_", "-")
        if name not in DECODERS:
            raise unknown_name("solver of a masked model", value, DECODERS)
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
    "FirstHitting",
    "Sharpening",
    "TokenKernel",
    "TokenMove",
    "get_decoder",
]
