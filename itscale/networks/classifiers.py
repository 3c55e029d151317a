"""Two digit classifiers of unlike design: one to steer by, one to judge with."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from itscale.errors import unknown_name
from itscale.networks.shipped import with_weights


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


class SteerCNN(nn.Module):
    """Plain stacked 3 x 3 convolutions with max-pooling, smooth activations for useful gradients.

    Reference:
        Simonyan and Zisserman (2015), "Very Deep Convolutional Networks", arXiv:1409.1556 (the pattern).
    """

    def __init__(self, channels: tuple[int, int, int] = (32, 64, 128), dropout: float = 0.2):
        super().__init__()
        a, b, c = channels
        self.body = nn.Sequential(
            _convolution(1, a), _convolution(a, a), nn.MaxPool2d(2),
            _convolution(a, b), _convolution(b, b), nn.MaxPool2d(2),
            _convolution(b, c),
        )  # fmt: skip
        self.hidden = nn.Linear(c * 9, 128)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(128, 10)

    def features(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n d"]:
        """Return the penultimate layer for images in [0, 1]."""
        pooled = F.avg_pool2d(self.body(x), 3, stride=2)  # 7 x 7 to 3 x 3
        return F.silu(self.hidden(pooled.flatten(1)))

    def forward(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n 10"]:
        """Return logits for images in [0, 1]."""
        return self.head(self.dropout(self.features(x)))


class PreactivationBlock(nn.Module):
    """Normalise, activate, convolve, twice, around an identity or a strided shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.norm_in = nn.BatchNorm2d(inputs)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm_out = nn.BatchNorm2d(outputs)
        self.conv_out = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Conv2d(inputs, outputs, stride, stride=stride, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c_out h_out w_out"]:
        hidden = self.conv_in(F.relu(self.norm_in(x)))
        return self.shortcut(x) + self.conv_out(F.relu(self.norm_out(hidden)))


class JudgeNet(nn.Module):
    """Pre-activation residual network on overlapping patches, averaged over all pixels at the end.

    It shares neither layout, activation nor pooling with ``SteerCNN``, so that images which please one by
    accident need not please the other.

    Reference:
        He et al. (2016), "Identity Mappings in Deep Residual Networks", arXiv:1603.05027.
    """

    def __init__(self, wide: int = 32, deep: int = 64):
        super().__init__()
        self.patch = nn.Conv2d(1, wide, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(
            PreactivationBlock(wide, wide),
            PreactivationBlock(wide, wide),
            PreactivationBlock(wide, deep, stride=2),
            PreactivationBlock(deep, deep),
            PreactivationBlock(deep, deep),
        )
        self.norm = nn.BatchNorm2d(deep)
        self.head = nn.Linear(deep, 10)

    def features(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n d"]:
        """Return the penultimate layer for images in [0, 1]."""
        return F.relu(self.norm(self.blocks(self.patch(x)))).mean(dim=(2, 3))  # over pixels

    def forward(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n 10"]:
        """Return logits for images in [0, 1]."""
        return self.head(self.features(x))


CLASSIFIERS: dict[str, tuple[type[nn.Module], str]] = {
    "digit-steer": (SteerCNN, "digit classifier to steer by: plain convolutions"),
    "digit-judge": (JudgeNet, "digit classifier to judge with, held out from steering: residual network"),
}


def load_classifier(name: str) -> nn.Module:
    """Load a bundled classifier: images ``[n, 1, 28, 28]`` in [0, 1] to logits, with ``features`` beside.

    Args:
        name: ``"digit-steer"`` or ``"digit-judge"``.

    Raises:
        UnknownName: for another name.
    """
    if name not in CLASSIFIERS:
        raise unknown_name("classifier", name, CLASSIFIERS)
    return with_weights(CLASSIFIERS[name][0](), name)
