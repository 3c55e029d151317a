"""VQAScore: the probability that a vision-language model says yes, the image shows the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError
from itscale.vision.visual_question import QuestionFolder, groups_of

from .declare import built_in, check_choice
from .learned import Preprocessed, Prompted
from .table import BUILT_IN

OVER = ("answers", "vocabulary")


@built_in("vqa-score")
@dataclass(frozen=True)
class VQAScore(Preprocessed, Prompted):
    """Probability of the answer yes to the question whether the image shows its prompt, in [0, 1].

    Any image-text-to-text model of transformers will do; images are preprocessed as it wants. Samples with
    the same prompt are scored together. Costs one pass of the model a sample, and a gradient one back.

    Args:
        weights: folder with model and processor as transformers saves them.
        question: with ``{}`` where the prompt goes.
        answers: the one that counts and the one against it; their first tokens are compared.
        over: ``"answers"`` takes the probability among the two, ``"vocabulary"`` among all tokens.
        log: the log-probability instead, in (-inf, 0], which is what a tilted law adds up.

    Reference:
        Lin et al. (2024), "Evaluating Text-to-Visual Generation with Image-to-Text Generation",
        arXiv:2404.01291 (there over the vocabulary).
    """

    weights: str | None = None
    question: str = 'Does this figure show "{}"? Please answer yes or no.'
    answers: Sequence[str] = ("Yes", "No")
    over: str = "answers"
    log: bool = False

    def __post_init__(self) -> None:
        check_choice(self.name, "over", self.over, OVER)
        if self.question.count("{}") != 1:
            raise ConfigError(
                f"reward {self.name!r}: question={self.question!r}; give one {{}} where the prompt goes"
            )
        if isinstance(self.answers, str) or len(self.answers) != 2:
            raise ConfigError(
                f"reward {self.name!r}: answers={self.answers!r}; give two, as in ('Yes', 'No')"
            )
        super().__post_init__()

    def __call__(
        self, images: Float[Tensor, "m 3 h w"], prompts: Sequence[str | None] | None = None
    ) -> Float[Tensor, " m"]:
        network = self._network(images)
        images = images.to(self._place(images))
        groups = groups_of(self._texts(prompts, len(images)))
        answers = (self.answers[0], self.answers[1])
        values, order = [], []
        for text, index in groups.items():
            question = self.question.replace("{}", text)
            both, whole = network.log_odds(images[index], question, answers, self.preprocess)
            values.append(both if self.over == "answers" else whole)
            order += index
        log_probability = torch.cat(values)[torch.tensor(order).argsort()]
        return log_probability if self.log else log_probability.exp()

    def _find(self) -> QuestionFolder:
        (needs,) = BUILT_IN[self.name].weights
        return QuestionFolder(str(needs.folder(self.weights, self.allow_download)), self.dtype)

    def _changes(self) -> dict[str, Any]:
        logs = {"range": (None, 0.0), "typical": (-4.0, 0.0), "scale_hint": 1.0} if self.log else {}
        return super()._changes() | logs
