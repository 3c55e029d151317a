"""Objects in images, found and counted by a detector of the transformers library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.vision.clip_folder import library, pretrained
from itscale.vision.preprocessing import as_pillow
from itscale.vision.states import DTYPES

GROUNDED = ("grounding-dino", "mm-grounding-dino")
OPEN_VOCABULARY = (*GROUNDED, "owlvit", "owlv2")
"""Kinds of models that look for texts rather than for classes of their own."""


class Detector:
    """A frozen detector with its processor.

    Args:
        model: an object detection model of transformers.
        processor: makes its inputs of pictures, and boxes of its outputs.
        dtype: in which it computes.
        device: where it is.
        is_open: it looks for texts.
    """

    def __init__(
        self, model: Any, processor: Any, *, dtype: torch.dtype, device: torch.device, is_open: bool
    ) -> None:
        self.model, self.processor = model, processor
        self.dtype, self.device, self.is_open = dtype, device, is_open

    def counts(
        self, images: Float[Tensor, "m 3 h w"], classes: list[str], threshold: float, nms: float | None
    ) -> Float[Tensor, "m k"]:
        """How many boxes of each class every image has.

        Args:
            images: in [0, 1]; rounded to 8 bits, as detectors are fed.
            classes: ``k`` names.
            threshold: least score of a box.
            nms: overlap above which the weaker of two boxes of a class is dropped.
        """
        counts = torch.zeros(len(images), len(classes), device=self.device)
        for i, found in enumerate(self.boxes(images, classes, threshold)):
            labels = found["labels"]
            if nms is not None and len(labels):
                from torchvision.ops import batched_nms

                keep = batched_nms(found["boxes"].float(), found["scores"].float(), labels, nms)
                labels = labels[keep]
            for k in range(len(classes)):
                counts[i, k] = (labels == k).sum()
        return counts

    @torch.no_grad()
    def boxes(
        self, images: Float[Tensor, "m 3 h w"], classes: list[str], threshold: float
    ) -> list[dict[str, Tensor]]:
        """Boxes in pixels, scores and labels of each image; a label is a position in ``classes``, or -1."""
        pictures = as_pillow(images)
        texts = {"text": [[name.lower() for name in classes]] * len(images)} if self.is_open else {}
        inputs = self.processor(images=pictures, return_tensors="pt", **texts).to(self.device)
        ready = {k: v.to(self.dtype) if v.is_floating_point() else v for k, v in inputs.items()}
        outputs = self.model(**ready)
        sizes = [tuple(images.shape[-2:])] * len(images)
        if self.model.config.model_type in GROUNDED:
            return self._grounded(outputs, inputs["input_ids"][0], len(classes), threshold, sizes)
        name = (
            "post_process_grounded_object_detection"  # transformers 5; before it open ones shared the other
        )
        if not self.is_open or not hasattr(self.processor, name):
            name = "post_process_object_detection"
        find = getattr(self.processor, name)
        found = find(outputs, threshold=threshold, target_sizes=sizes)
        if self.is_open:
            return [{key: f[key] for key in ("boxes", "scores", "labels")} for f in found]
        names = {int(i): name for i, name in self.model.config.id2label.items()}
        place = torch.tensor(
            [classes.index(names[i]) if names[i] in classes else -1 for i in range(len(names))],
            device=self.device,
        )
        return [{**f, "labels": place[f["labels"].to(self.device)]} for f in found]

    def _grounded(
        self, outputs: Any, ids: Tensor, k: int, threshold: float, sizes: list[tuple[int, ...]]
    ) -> list[dict[str, Tensor]]:
        """Boxes of a model that scores the tokens of ``a cat. a red dog.``: a class has the mean of its own.

        The library's reading gives a box the words above a threshold, which need not be those of one class.
        """
        stop = self.processor.tokenizer.convert_tokens_to_ids(".")
        part = (ids == stop).cumsum(dim=0)
        inside = (ids != stop) & (part < k)
        inside[0] = False  # the token before the text
        member = torch.stack([inside & (part == j) for j in range(k)]).to(outputs.logits.dtype)
        tokens = outputs.logits[..., : len(ids)].sigmoid()
        scores, labels = (tokens @ member.T / member.sum(dim=1)).max(dim=-1)
        x, y, width, height = outputs.pred_boxes.unbind(dim=-1)
        corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)
        (rows, columns), kept = sizes[0], scores > threshold
        pixels = corners * corners.new_tensor([columns, rows, columns, rows])
        return [
            {"boxes": pixels[i][kept[i]], "scores": scores[i][kept[i]], "labels": labels[i][kept[i]]}
            for i in range(len(scores))
        ]


@dataclass(frozen=True)
class DetectorFolder:
    """A detector with its processor, as ``save_pretrained`` writes them.

    Args:
        folder: holds both.
        dtype: in which it computes.
    """

    folder: str
    dtype: str = "float32"

    def load(self, device: torch.device) -> Detector:
        """Read the weights."""
        transformers = library()
        config = transformers.AutoConfig.from_pretrained(self.folder, local_files_only=True)
        is_open = config.model_type in OPEN_VOCABULARY
        kind = transformers.AutoModelForZeroShotObjectDetection if is_open else None
        model = pretrained(kind or transformers.AutoModelForObjectDetection, self.folder, device, self.dtype)
        reader = transformers.AutoProcessor if is_open else transformers.AutoImageProcessor
        processor = reader.from_pretrained(self.folder, local_files_only=True)
        return Detector(model, processor, dtype=DTYPES[self.dtype], device=device, is_open=is_open)
