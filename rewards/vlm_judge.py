"""A vision-language model as judge: a rubric in words, a number and a reason for every picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itscale.errors import ConfigError
from itscale.remote.http_client import Endpoint
from itscale.remote.judging import RUBRIC, Judge, Verdict
from itscale.remote.payload import to_png
from itscale.scoring import RewardSpec, Scores
from itscale.vision.preprocessing import as_pillow

from .declare import built_in
from .learned import texts_of
from .table import BUILT_IN

PLACE = "{prompt}"


@built_in("vlm-judge")
@dataclass(frozen=True)
class VLMJudge:
    """The score that a model behind an OpenAI-compatible endpoint gives by a rubric.

    Serve an open model yourself with vLLM, llama.cpp or the like. Pictures are sent as PNG, never as JPEG,
    whose artefacts a judge would see. An answer without a number is asked for once more and then makes the
    sample invalid; it never counts as 0. Equal pictures with equal prompts are asked about once a batch.
    Costs one question a sample, ``workers`` at a time. No gradient; not deterministic, so that no cache
    freezes an answer.

    Args:
        url: of the endpoint, up to and with ``/v1``.
        model: as the server names it.
        rubric: file with the question; ``{prompt}`` in it stands for the sample's prompt. By default
            faithfulness to the prompt and soundness of the picture.
        prompt: one text for all samples; by default each sample's own prompt.
        low, high: the scale.
        structured: have the server force the form of the answer; ``False`` for servers that cannot.
        answers: file to which every verdict is appended as a line of JSON, with its explanation.
        workers: questions under way at once.
        temperature: 0 for the likeliest answer.
        max_tokens: of an answer.
        token_env: environment variable that holds a bearer token.
        timeout: seconds for one answer.
        total: seconds to go on asking a server that is away.
        on_unavailable: ``"raise"`` after that, or ``"wait"`` for ever.
    """

    url: str = field(repr=False)
    model: str
    rubric: str | None = None
    prompt: str | None = None
    low: float = 0.0
    high: float = 10.0
    structured: bool = field(default=True, repr=False)
    answers: str | None = field(default=None, repr=False)
    workers: int = field(default=8, repr=False)
    temperature: float = 0.0
    max_tokens: int = 300
    token_env: str | None = field(default=None, repr=False)
    timeout: float = field(default=120.0, repr=False)
    total: float = field(default=120.0, repr=False)
    on_unavailable: str = field(default="raise", repr=False)
    _question: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._judge.endpoint.check("vlm-judge")
        if not self.low < self.high:
            raise ConfigError(
                f"reward 'vlm-judge': low is {self.low!r} and high {self.high!r}; low must be below"
            )
        for name, least in (("workers", 1), ("max_tokens", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"reward 'vlm-judge': {name} is {value!r}; give a whole number from {least}"
                )
        if self.answers is not None and not Path(self.answers).expanduser().parent.is_dir():
            raise ConfigError(f"reward 'vlm-judge': answers={self.answers!r}; its folder does not exist")
        question = RUBRIC
        if self.rubric is not None:
            path = Path(self.rubric).expanduser()
            if not path.is_file():
                raise ConfigError(
                    f"reward 'vlm-judge': rubric={self.rubric!r} is no file; write the question there"
                )
            question = path.read_text(encoding="utf-8")
        object.__setattr__(self, "_question", question)

    @property
    def spec(self) -> RewardSpec:
        """The facts of the table, on the scale and for the rubric that were given."""
        needs = self.prompt is None and PLACE in self._question
        changes: dict[str, Any] = {"range": (self.low, self.high), "needs_prompt": needs}
        if (self.low, self.high) != (0.0, 10.0):
            changes |= {"typical": (self.low, self.high), "scale_hint": 0.2 * (self.high - self.low)}
        return RewardSpec(**{**BUILT_IN["vlm-judge"].facts, "name": "vlm-judge", **changes})

    def __call__(
        self, images: Float[Tensor, "m 3 h w"], prompts: Sequence[str | None] | None = None
    ) -> Scores:
        questions = [self._question] * len(images)
        if PLACE in self._question:
            texts = texts_of("vlm-judge", self.prompt, prompts, len(images))
            questions = [self._question.replace(PLACE, text) for text in texts]
        asked = [(to_png(picture), q) for picture, q in zip(as_pillow(images), questions, strict=True)]
        different = list(dict.fromkeys(asked))
        with ThreadPoolExecutor(min(self.workers, len(different))) as pool:
            verdicts = dict(
                zip(different, pool.map(lambda pair: self._judge.ask(*pair), different), strict=True)
            )
        self._write(verdicts)
        found = [verdicts[pair] for pair in asked]
        values = [float("nan") if v.score is None else v.score for v in found]
        reasons = ["" if v.score is not None else f"no score in {v.explanation[:100]!r}" for v in found]
        return Scores.of(
            torch.tensor(values),
            parts={"questions": torch.tensor([float(v.asked) for v in found])},
            reasons=reasons if any(reasons) else None,
        )

    @property
    def _judge(self) -> Judge:
        endpoint = Endpoint(self.url, self.token_env, self.timeout, self.total, self.on_unavailable)
        return Judge(
            endpoint, self.model, self.low, self.high, self.structured, self.temperature, self.max_tokens
        )

    def _write(self, verdicts: dict[tuple[str, str], Verdict]) -> None:
        """Append what was said, without the pictures."""
        if self.answers is None:
            return
        lines = [
            json.dumps(
                {"question": question, "score": v.score, "explanation": v.explanation, "asked": v.asked}
            )
            for (_, question), v in verdicts.items()
        ]
        with Path(self.answers).expanduser().open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
