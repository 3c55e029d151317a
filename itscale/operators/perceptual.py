"""LPIPS by the library that has it, where its networks are on this machine already: nothing is downloaded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from itscale.errors import ConfigError

NETS = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""Networks of LPIPS, the published first, and the files that torchvision keeps their weights in."""
SMALLEST = 64
"""Sides below this are enlarged to it: the networks halve them several times."""


@dataclass(frozen=True)
class Perceptual:
    """LPIPS with one of its networks: how different images look, 0 for equal ones.

    Attributes:
        net: ``"alex"``, ``"vgg"`` or ``"squeeze"``.

    Reference:
        Zhang, Isola, Efros, Shechtman and Wang (2018), "The Unreasonable Effectiveness of Deep Features as a
        Perceptual Metric", arXiv:1801.03924; computed by torchmetrics.
    """

    net: str

    def __post_init__(self) -> None:
        if self.net not in NETS:
            raise ConfigError(f"net must be one of {', '.join(NETS)}, got {self.net!r}")
        if (lack := _lack(self.net)) is not None:
            raise ConfigError(f"LPIPS with {self.net!r}: {lack}")

    @torch.no_grad()
    def __call__(self, x: Tensor, truth: Tensor) -> Float64[Tensor, " n"]:
        """Distances of images (n, c, h, w) in [0, 1] from one of the same shape, (n,) or (1,) of them."""
        metric = _metric(self.net)
        a, b = torch.broadcast_tensors(_prepared(x), _prepared(truth))
        found = [metric(p[None], q[None]).reshape(1) for p, q in zip(a, b, strict=True)]
        metric.reset()
        return torch.cat(found).double()


def find_lpips() -> Perceptual | str:
    """LPIPS with the first of its networks that is there, or one line on what is missing."""
    lacks = {net: _lack(net) for net in NETS}
    found = next((net for net, lack in lacks.items() if lack is None), None)
    return Perceptual(found) if found is not None else str(lacks["alex"])


def _lack(net: str) -> str | None:
    for package in ("torchmetrics", "torchvision"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed; pip install 'itscale[inverse]'"
    file = _weights(net)
    if not file.exists():
        return f"its weights {file.name} are not in torch's cache ({file.parent}); put them there"
    return None


def _weights(net: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / NETS[net]


@cache
def _metric(net: str) -> Any:
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type=net)  # type: ignore[arg-type]


def _prepared(x: Tensor) -> Tensor:
    """Three channels in [-1, 1] with sides that the networks can halve."""
    x = x.float().expand(-1, 3, -1, -1)
    if min(x.shape[-2:]) < SMALLEST:
        factor = SMALLEST / min(x.shape[-2:])
        x = torch.nn.functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    return 2 * x.clamp(0, 1) - 1
