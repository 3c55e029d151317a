"""The judge of scenes: a small network that marks the centre of every object."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from itscale.networks.classifiers import PreactivationBlock
from itscale.networks.shipped import with_weights
from itscale.scenes.kinds import KINDS, SIDE


class SceneJudgeNet(nn.Module):
    """Density of object centres by kind on a grid of 8 x 8 cells of 4 x 4 pixels.

    The densities of a kind sum to its count, and their centre of mass is the mean position of its objects.
    Nothing is segmented: it shares no step with the rewards that label regions of one colour.

    Reference:
        Lempitsky and Zisserman (2010), "Learning to Count Objects in Images" (counting as a density's sum).
    """

    CELLS = 8

    def __init__(self, wide: int = 32, deep: int = 64):
        super().__init__()
        self.patch = nn.Conv2d(3, wide, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(
            PreactivationBlock(wide, wide),
            PreactivationBlock(wide, deep, stride=2),
            PreactivationBlock(deep, deep),
            PreactivationBlock(deep, deep),
        )
        self.norm = nn.BatchNorm2d(deep)
        self.head = nn.Conv2d(deep, len(KINDS), 1)

    def forward(self, x: Float[Tensor, "n 3 32 32"]) -> Float[Tensor, "n 12 8 8"]:
        """Return the density of centres for images in [0, 1]; sums over cells are counts."""
        return self.head(F.relu(self.norm(self.blocks(self.patch(x)))))

    @classmethod
    def target(
        cls, kinds: Int[Tensor, "n objects"], centres: Float[Tensor, "n objects 2"]
    ) -> Float[Tensor, "n 12 8 8"]:
        """Return the density of known objects: each centre is shared out linearly to the cells around it."""
        place = (centres * cls.CELLS / SIDE - 0.5).clamp(0, cls.CELLS - 1)
        cells = torch.arange(cls.CELLS, device=centres.device)
        along = (1 - (place[..., None] - cells).abs()).clamp(min=0)  # (n, objects, 2, cells)
        spot = along[..., 1, :, None] * along[..., 0, None, :]
        of_kind = F.one_hot(kinds.clamp(min=0), len(KINDS)) * (kinds >= 0)[..., None]
        return torch.einsum("nok,nohw->nkhw", of_kind.to(spot.dtype), spot).float()


def load_scene_judge() -> SceneJudgeNet:
    """Load the network that marks the centres of a scene's objects, held out from steering."""
    return with_weights(SceneJudgeNet(), "scene-judge")
