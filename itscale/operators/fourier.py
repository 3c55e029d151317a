"""Linear operators that are diagonal among frequencies: circular blurs and lines of k-space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.operators.base import Batch, Measured, SpectralOperator


class RealFourier:
    """An orthonormal real basis of the Fourier transform of real images: cosines, then sines, in a fixed
    order.

    Of two conjugate frequencies the real and the imaginary part of one are kept, times the square root of 2;
    those that are their own conjugates are real.
    """

    def __init__(self, sides: tuple[int, ...]) -> None:
        h, w = sides
        index = torch.arange(h * w).reshape(h, w)
        mirror = index.flip(0, 1).roll((1, 1), (0, 1))
        flat, other = index.flatten(), mirror.flatten()
        self.sides = (h, w)
        self.own = flat[flat == other]
        self.pairs = flat[flat < other]
        self.partners = other[flat < other]

    def pack(self, spectrum: Tensor) -> Tensor:
        """``(..., h, w)`` complex and conjugate symmetric to ``(..., h w)`` real."""
        flat = spectrum.flatten(-2)
        own, pair = (flat[..., index.to(flat.device)] for index in (self.own, self.pairs))
        return torch.cat([own.real, math.sqrt(2) * pair.real, math.sqrt(2) * pair.imag], dim=-1)

    def unpack(self, packed: Tensor) -> Tensor:
        """The inverse of ``pack``."""
        o, p = len(self.own), len(self.pairs)
        pair = torch.complex(packed[..., o : o + p], packed[..., o + p :]) / math.sqrt(2)
        flat = torch.zeros(packed.shape, dtype=pair.dtype, device=packed.device)
        flat[..., self.own.to(packed.device)] = packed[..., :o].to(pair.dtype)
        flat[..., self.pairs.to(packed.device)] = pair
        flat[..., self.partners.to(packed.device)] = pair.conj()
        return flat.reshape(*packed.shape[:-1], *self.sides)

    def per_coordinate(self, values: Tensor) -> Tensor:
        """Numbers ``(h, w)``, equal at conjugate frequencies, in the order of packed coordinates."""
        flat = values.flatten()
        return torch.cat([flat[self.own], flat[self.pairs], flat[self.pairs]])


@dataclass(frozen=True, eq=False)
class Blur(SpectralOperator):
    """Circular convolution of every channel with a kernel, whose middle stands on the pixel.

    Frequencies that the kernel suppresses below a thousandth of the strongest count as not measured.

    Attributes:
        kernel: (kh, kw), odd sides no larger than the image's.
        shape: (c, h, w).
    """

    kernel: Tensor
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        sides = tuple(self.kernel.shape)
        if len(sides) != 2 or not all(s % 2 and s <= n for s, n in zip(sides, self.shape[1:], strict=True)):
            raise ConfigError(f"kernel must have two odd sides within {self.shape[1:]}, got {sides}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @cached_property
    def measurement_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @cached_property
    def response(self) -> Tensor:
        """The kernel's Fourier transform, (h, w) complex128."""
        _, h, w = self.shape
        kh, kw = self.kernel.shape
        padded = torch.zeros(h, w, dtype=torch.float64)
        padded[:kh, :kw] = self.kernel.double()
        return torch.fft.fft2(padded.roll((-(kh // 2), -(kw // 2)), (0, 1)))

    @cached_property
    def frequencies(self) -> RealFourier:
        return RealFourier(self.shape[1:])

    @property
    def singular_values(self) -> Tensor:
        a = self.frequencies.per_coordinate(self.response.abs())
        return a.repeat(self.shape[0])

    def to_spectral(self, x: Batch) -> Tensor:
        return self.frequencies.pack(torch.fft.fft2(x, norm="ortho")).flatten(1)

    def from_spectral(self, v: Tensor) -> Batch:
        packed = v.reshape(len(v), self.shape[0], -1)
        return torch.fft.ifft2(self.frequencies.unpack(packed), norm="ortho").real

    def measurement_to_spectral(self, y: Measured) -> Tensor:
        turned = torch.fft.fft2(y, norm="ortho") * self._phase(y).conj()
        return self.frequencies.pack(turned).flatten(1)

    def measurement_from_spectral(self, u: Tensor) -> Measured:
        spectrum = self.frequencies.unpack(u.reshape(len(u), self.shape[0], -1))
        return torch.fft.ifft2(spectrum * self._phase(u), norm="ortho").real

    def _phase(self, like: Tensor) -> Tensor:
        """``exp(i arg k^)``, 1 where nothing passes; at self-conjugate frequencies the sign of the
        response."""
        k = self.response
        phase = torch.where(k.abs() > 1e-12 * k.abs().max(), k / k.abs().clamp_min(1e-300), 1.0)
        return phase.to(
            device=like.device, dtype=torch.complex64 if like.dtype == torch.float32 else phase.dtype
        )


@dataclass(frozen=True, eq=False)
class FourierMask(SpectralOperator):
    """Single-coil magnetic resonance of real images: the lines of k-space where ``lines`` is true.

    A measurement holds the real coordinates of the frequencies seen, in an orthonormal basis of cosines and
    sines; a frequency is seen if its column or its mirror image's is.

    Attributes:
        lines: (w,) bool, columns of ``fft2``, the zero frequency first.
        shape: (c, h, w).
    """

    lines: Tensor
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.lines.dtype != torch.bool or tuple(self.lines.shape) != tuple(self.shape[2:]):
            raise ConfigError(f"lines must be {self.shape[2]} truth values, got {tuple(self.lines.shape)}")
        if not bool(self.lines.any()):
            raise ConfigError("lines is false everywhere: nothing is measured")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @cached_property
    def frequencies(self) -> RealFourier:
        return RealFourier(self.shape[1:])

    @cached_property
    def order(self) -> Tensor:
        """Packed coordinates of all channels, those seen first."""
        seen = self.seen.repeat(self.shape[0])
        return torch.cat([seen.nonzero()[:, 0], (~seen).nonzero()[:, 0]])

    @cached_property
    def measurement_shape(self) -> tuple[int, ...]:
        return (len(self.singular_values),)

    @property
    def singular_values(self) -> Tensor:
        return torch.ones(self.shape[0] * int(self.seen.sum()), dtype=torch.float64)

    @cached_property
    def seen(self) -> Tensor:
        """Which packed coordinates of a channel are measured."""
        mirrored = self.lines | self.lines.flip(0).roll(1)
        return self.frequencies.per_coordinate(mirrored.expand(self.shape[1], -1).double()) > 0

    def to_spectral(self, x: Batch) -> Tensor:
        packed = self.frequencies.pack(torch.fft.fft2(x, norm="ortho")).flatten(1)
        return packed[:, self.order.to(x.device)]

    def from_spectral(self, v: Tensor) -> Batch:
        packed = v[:, self.order.argsort().to(v.device)].reshape(len(v), self.shape[0], -1)
        return torch.fft.ifft2(self.frequencies.unpack(packed), norm="ortho").real

    def measurement_to_spectral(self, y: Measured) -> Tensor:
        return y

    def measurement_from_spectral(self, u: Tensor) -> Measured:
        return u
