"""Counting by a detector: how far the number of objects is from what was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError, did_you_mean
from itscale.scoring import Scores
from itscale.vision.detection import OPEN_VOCABULARY, DetectorFolder

from .declare import built_in, check_choice
from .learned import Learned
from .table import BUILT_IN

FORMS = ("error", "exp")


@built_in("count")
@dataclass(frozen=True)
class Count(Learned):
    """Minus the number of objects too many or too few, summed over the classes; 0 when every count is right.

    The counts themselves are the parts of the score. Costs one pass of the detector a sample; no gradient.

    Args:
        targets: number wanted of each class, such as ``{"cat": 2, "dog": 1}``; by default the ``counts`` in
            each sample's ``meta``, or in its condition where that is a mapping.
        weights: folder with detector and processor as transformers saves them: DETR, RT-DETR, YOLOS and
            others with classes of their own, or Grounding DINO and OWL, which look for any text.
        threshold: least score of a box that counts.
        nms: overlap (intersection over union) above which the weaker of two boxes of a class is dropped;
            ``None`` keeps both, as detectors trained with one box per object want.
        form: ``"error"``, or ``"exp"`` for its exponential in (0, 1].

    Reference:
        Carion et al. (2020), "End-to-End Object Detection with Transformers", arXiv:2005.12872. Ghosh et al.
        (2023), "GenEval", arXiv:2310.11513 (counting to judge text-to-image models).
    """

    targets: Mapping[str, int] | None = None
    weights: str | None = None
    threshold: float = 0.5
    nms: float | None = None
    form: str = "error"

    def __post_init__(self) -> None:
        check_choice(self.name, "form", self.form, FORMS)
        for field, value in (("threshold", self.threshold), ("nms", self.nms)):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"reward {self.name!r}: {field} is {value!r}; give a number from 0 to 1")
        super().__post_init__()
        if self.targets is not None:
            self._check(self.targets, _known(self._source.folder))

    def __call__(
        self, images: Float[Tensor, "m 3 h w"], meta: Sequence[Mapping[str, Any]] | None = None
    ) -> Scores:
        wanted = self._wanted(meta, len(images))
        classes = list(dict.fromkeys(name for targets in wanted for name in targets))
        network = self._network(images)
        counts = network.counts(images.to(self._place(images)), classes, self.threshold, self.nms)
        error = torch.zeros(len(images), device=counts.device)
        for i, targets in enumerate(wanted):
            error[i] = sum((counts[i, classes.index(name)] - n).abs() for name, n in targets.items())
        parts = {name: counts[:, k] for k, name in enumerate(classes)}
        return Scores(
            (-error).exp() if self.form == "exp" else -error,
            torch.ones(len(images), dtype=torch.bool, device=counts.device),
            parts,
        )

    def _wanted(self, meta: Sequence[Mapping[str, Any]] | None, m: int) -> list[Mapping[str, int]]:
        """What each sample should hold.

        Raises:
            ConfigError: for samples that nothing is said about, or classes that the detector has not.
        """
        if self.targets is not None:
            return [self.targets] * m
        wanted: list[Any] = [(entry or {}).get("counts") for entry in meta or [{}]]
        known = _known(self._source.folder)
        for targets in wanted:
            if not isinstance(targets, Mapping) or not targets:
                raise ConfigError(
                    f"reward {self.name!r} has nothing to count for a sample; write "
                    "count(targets={'cat': 2}), "
                    "or give each sample's meta {'counts': {...}}"
                )
            self._check(targets, known)
        return wanted

    def _check(self, targets: Mapping[str, int], known: list[str] | None) -> None:
        for name, n in targets.items():
            if isinstance(n, bool) or not isinstance(n, int) or n < 0:
                raise ConfigError(
                    f"reward {self.name!r}: {n!r} of {name!r} are wanted; give a whole number from 0"
                )
            if known is not None and name not in known:
                raise ConfigError(
                    f"reward {self.name!r}: the detector has no class {name!r}."
                    f"{did_you_mean(name, known)} It has {', '.join(known[:10])}"
                    f"{', ...' if len(known) > 10 else ''}"
                )

    def _find(self) -> DetectorFolder:
        (needs,) = BUILT_IN[self.name].weights
        return DetectorFolder(str(needs.folder(self.weights, self.allow_download)), self.dtype)

    def _changes(self) -> dict[str, Any]:
        if self.form == "error":
            return {}
        return {"range": (0.0, 1.0), "typical": (0.0, 1.0), "scale_hint": 0.4}


def _known(folder: str) -> list[str] | None:
    """The classes that a detector was trained on; None if it looks for any text."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") in OPEN_VOCABULARY:
        return None
    return list(config.get("id2label", {}).values())
