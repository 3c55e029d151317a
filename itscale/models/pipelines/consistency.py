"""Models distilled to jump to the data: latent consistency models, and consistency models on pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from itscale import interpolants
from itscale.errors import ConfigError
from itscale.interpolants import EDM, Interpolant
from itscale.models.conditions import Conditions, Encoding
from itscale.models.pipelines.base import PipelineModel
from itscale.models.pipelines.paths import prediction_of
from itscale.models.pipelines.requests import Request
from itscale.models.pipelines.stable_diffusion import StableDiffusion
from itscale.models.pipelines.stable_diffusion_xl import StableDiffusionXL
from itscale.types import State, Time, expand_over_event

DATA_STD = 0.5


class JumpsToData(PipelineModel):
    """The network's denoised sample, mixed with the state so that it is the state where there is no noise.

    What it predicts is where the ODE ends, not a mean: noise is drawn anew at every step (``Renoise``), and
    the law that methods tilt is that of this sampler.

    Reference:
        Luo et al. (2023), "Latent Consistency Models", arXiv:2310.04378, eq. (9).
    """

    distilled: ClassVar[bool] = True

    @property
    def predicts(self) -> Literal["denoised"]:
        return "denoised"

    def predict_at(self, x: State, t: Time, label: Tensor, condition: Encoding | None) -> State:
        raw = super().predict_at(x, t, label, condition)
        c = interpolants.coefficients(self.interpolant, t)
        clean = interpolants.denoised(prediction_of(self.pipe.scheduler), raw, x, c)
        scaled = label.double() * float(self.pipe.scheduler.config.timestep_scaling)
        kept = DATA_STD**2 / (scaled**2 + DATA_STD**2)
        moved = scaled / (scaled**2 + DATA_STD**2).sqrt()
        return clean * expand_over_event(moved, x) + x * expand_over_event(kept, x)


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentConsistency(JumpsToData, StableDiffusion):
    """A latent consistency model, or Stable Diffusion with such weights loaded and an LCMScheduler."""

    embedded_guidance: float = 8.5

    family: ClassVar[str] = "latent-consistency"
    classes: ClassVar[tuple[str, ...]] = (
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentConsistencyXL(JumpsToData, StableDiffusionXL):
    """Stable Diffusion XL with the weights of a latent consistency model and an LCMScheduler."""

    family: ClassVar[str] = "latent-consistency-xl"
    classes: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Consistency(PipelineModel):
    """A consistency model on pixels, perhaps conditional on a class.

    The path is that of the data at the least noise level that the model was trained at: noise
    ``sqrt(sigma^2 - sigma_min^2)`` is what steps add to it.

    Reference:
        Song et al. (2023), "Consistency Models", arXiv:2303.01469.
    """

    family: ClassVar[str] = "consistency"
    classes: ClassVar[tuple[str, ...]] = ("ConsistencyModelPipeline",)
    distilled: ClassVar[bool] = True

    @property
    def network(self) -> Any:
        return self.pipe.unet

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.network.config.in_channels, *self.size)

    @property
    def _levels(self) -> tuple[float, float, float]:
        config = self.pipe.scheduler.config
        return float(config.sigma_min), float(config.sigma_max), float(config.sigma_data)

    @property
    def interpolant(self) -> Interpolant:
        least, most, _ = self._levels
        return EDM(sigma_max=math.sqrt(most**2 - least**2), sigma_min=least)

    @property
    def predicts(self) -> Literal["denoised"]:
        return "denoised"

    def encode(self, conditions: Sequence[Any]) -> Encoding | None:
        """Encode classes, or accept groups without a condition.

        Raises:
            ConfigError: for a class that the network does not know.
        """
        count = self.network.config.num_class_embeds
        if count is None:
            if given := [c for c in conditions if c is not None]:
                raise ConfigError(f"condition {given[0]!r} was given, and {self.name} takes none")
            return None
        for c in conditions:
            if isinstance(c, bool) or not isinstance(c, int) or not 0 <= c < count:
                raise ConfigError(f"condition {c!r} is no class; give an index 0 to {count - 1}")
        return Conditions.of([self._entry(Request(c)) for c in conditions])

    def check_conditions(self, conditions: Sequence[Any]) -> None:
        self.encode(conditions)

    def embed(self, request: Request) -> Mapping[str, Tensor]:
        return {"class": torch.tensor(request.prompt)}

    def noise_levels(self, scheduler: Any) -> Any:
        least, most, _ = self._levels
        sigmas = torch.as_tensor(scheduler.sigmas, dtype=torch.float64).clamp(least, most)
        return (sigmas**2 - least**2).sqrt()

    def _sigma(self, t: Time) -> Tensor:
        least, _, _ = self._levels
        return (self.interpolant.sigma(t) ** 2 + least**2).sqrt()

    def label(self, t: Time) -> Tensor:
        return (250 * self._sigma(t).log()).float()

    def predict_at(self, x: State, t: Time, label: Tensor, condition: Encoding | None) -> State:
        sigma, (least, _, data) = self._sigma(t), self._levels
        scaled = x * expand_over_event((sigma**2 + data**2).rsqrt(), x)
        given = Conditions.of([{}] * len(x)) if condition is None else condition
        raw = super().predict_at(scaled, t, label, given)
        kept = data**2 / ((sigma - least) ** 2 + data**2)
        moved = (sigma - least) * data / (sigma**2 + data**2).sqrt()
        clean = raw * expand_over_event(moved, x) + x * expand_over_event(kept, x)
        return clean.clamp(-1, 1) if self.pipe.scheduler.config.clip_denoised else clean

    def ask(self, x: Tensor, label: Tensor, given: Conditions) -> Tensor:
        classes = given["class"].to(x.device) if "class" in given else None
        return self.network(x, label, class_labels=classes, return_dict=False)[0]
