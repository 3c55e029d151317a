"""Yes or no, asked about a picture: the probability that a vision-language model answers so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError
from itscale.vision.clip_folder import library, pretrained
from itscale.vision.preprocessing import as_pillow
from itscale.vision.states import DTYPES


class Questioner:
    """A frozen vision-language model with its processor.

    Args:
        model: an image-text-to-text model of transformers.
        processor: makes its inputs of pictures and texts; its chat template is used if there is one.
        dtype: in which the model computes.
        device: where it is.
    """

    def __init__(self, model: Any, processor: Any, *, dtype: torch.dtype, device: torch.device) -> None:
        self.model, self.processor = model, processor
        self.dtype, self.device = dtype, device

    def log_odds(
        self, images: Float[Tensor, "m 3 h w"], question: str, answers: tuple[str, str], preprocess: str
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Log-probability of the first answer, over both answers and over the whole vocabulary.

        Args:
            images: all asked about with the same question, so that nothing is padded.
            question: what is asked.
            answers: of which the first tokens are compared.
            preprocess: ``"tensor"`` keeps the gradient, ``"pil"`` rounds to 8 bits.
        """
        logits = self._logits(images, question, preprocess).float()
        first, second = (self._first_token(answer) for answer in self._checked(answers))
        pair = logits[:, [first, second]].log_softmax(dim=1)[:, 0]
        return pair, logits.log_softmax(dim=1)[:, first]

    def _logits(self, images: Tensor, question: str, preprocess: str) -> Tensor:
        """Logits ``[m, vocabulary]`` of the first token of the answer."""
        texts = [self._prompt(question)] * len(images)
        if preprocess == "tensor":
            inputs = self.processor(
                text=texts, images=[[image] for image in images], return_tensors="pt", do_rescale=False
            )
        else:
            pictures = [[picture] for picture in as_pillow(images)]
            inputs = self.processor(text=texts, images=pictures, return_tensors="pt")
        inputs = {k: self._ready(v) for k, v in inputs.items()}
        if getattr(self.model.config, "is_encoder_decoder", False):
            start = self.model.config.decoder_start_token_id
            begun = torch.full((len(images), 1), start, device=self.device)
            return self.model(**inputs, decoder_input_ids=begun).logits[:, -1]
        return self.model(**inputs, logits_to_keep=1).logits[:, -1]

    def _ready(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.to(self.device)
        return value.to(self.dtype) if value.is_floating_point() else value

    def _prompt(self, question: str) -> str:
        """The question as the model was trained to be asked."""
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            return self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        return f"{getattr(self.processor, 'image_token', '')}{question}"

    def _first_token(self, answer: str) -> int:
        tokens = self.processor.tokenizer.encode(answer, add_special_tokens=False)
        unknown = self.processor.tokenizer.unk_token_id
        if not tokens or tokens[0] == unknown:
            raise ConfigError(
                f"the model's vocabulary does not begin the answer {answer!r}; give another one"
            )
        return tokens[0]

    def _checked(self, answers: tuple[str, str]) -> tuple[str, str]:
        if self._first_token(answers[0]) == self._first_token(answers[1]):
            raise ConfigError(f"the answers {answers} begin with the same token; give two that differ")
        return answers


@dataclass(frozen=True)
class QuestionFolder:
    """An image-text-to-text model with its processor, as ``save_pretrained`` writes them.

    Args:
        folder: holds both.
        dtype: in which it computes.
    """

    folder: str
    dtype: str = "float32"

    def load(self, device: torch.device) -> Questioner:
        """Read the weights."""
        transformers = library()
        model = pretrained(transformers.AutoModelForImageTextToText, self.folder, device, self.dtype)
        processor = transformers.AutoProcessor.from_pretrained(self.folder, local_files_only=True)
        return Questioner(model, processor, dtype=DTYPES[self.dtype], device=device)


def groups_of(texts: Sequence[str]) -> dict[str, list[int]]:
    """The positions of each different text, in order of appearance."""
    found: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        found.setdefault(text, []).append(i)
    return found
