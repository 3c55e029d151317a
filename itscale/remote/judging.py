"""A question to a vision-language model behind an endpoint as of OpenAI, and the number in its answer."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from itscale.errors import RewardError
from itscale.remote.http_client import Endpoint

RUBRIC = """You judge pictures that were made for a prompt.
Prompt: {prompt}
How well does the picture show what the prompt asks for, everything in it and nothing against it? How sound is
it as a picture: are shapes, hands, faces and writing as they should be?
"""
FORM = (
    'Answer with a JSON object and nothing else: {{"explanation": "one or two sentences", "score": number}}. '
    "The score is a number from {low:g} (worst) to {high:g} (best)."
)
NUMBER = r"-?\d+(?:\.\d+)?"
LOOSE = re.compile(rf"\bscore\b\W{{0,4}}(?:is|of|=|:)?\W{{0,4}}({NUMBER})", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """What a model said about one picture.

    Attributes:
        score: the number, or None if there was none.
        explanation: the model's own, or its whole answer.
        asked: how many times it was asked.
    """

    score: float | None
    explanation: str
    asked: int


@dataclass(frozen=True)
class Judge:
    """How a model is asked.

    Args:
        endpoint: up to and with ``/v1``.
        model: as the server names it.
        low, high: the scale.
        structured: ask the server to force the form of the answer; some cannot.
        temperature: 0 for the likeliest answer.
        max_tokens: of an answer.
    """

    endpoint: Endpoint
    model: str
    low: float
    high: float
    structured: bool = True
    temperature: float = 0.0
    max_tokens: int = 300

    def ask(self, png: str, question: str) -> Verdict:
        """Judge one picture; an answer without a number is asked for once more.

        Args:
            png: base64 of the picture.
            question: the rubric, with the prompt in it.

        Raises:
            RewardError: if the server is away, refuses, or speaks another protocol.
        """
        form = FORM.format(low=self.low, high=self.high)
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}
        text = {"type": "text", "text": f"{question}\n{form}"}
        messages: list[dict[str, Any]] = [{"role": "user", "content": [picture, text]}]
        first = self._answer(messages)
        verdict = self._read(first, 1)
        if verdict.score is not None:
            return verdict
        messages += [
            {"role": "assistant", "content": first},
            {"role": "user", "content": f"That holds no score in the form that was asked for. {form}"},
        ]
        return self._read(self._answer(messages), 2)

    def _answer(self, messages: list[dict[str, Any]]) -> str:
        document: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if self.structured:
            document["response_format"] = {"type": "json_schema", "json_schema": self._schema()}
        answer = self.endpoint.post("/chat/completions", document)
        try:
            message = answer["choices"][0]["message"]
            content = message.get("content") or message.get("refusal") or ""
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise RewardError(
                f"{self.endpoint.url}/chat/completions answers as no OpenAI-compatible server does: "
                f"{str(answer)[:100]}; does the url end in /v1?"
            ) from error
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
        return str(content)

    def _schema(self) -> dict[str, Any]:
        number = {"type": "number", "minimum": self.low, "maximum": self.high}
        properties = {"explanation": {"type": "string"}, "score": number}
        shape = {
            "type": "object", "properties": properties, "required": list(properties),
            "additionalProperties": False,
        }  # fmt: skip
        return {"name": "verdict", "strict": True, "schema": shape}

    def _read(self, text: str, asked: int) -> Verdict:
        score, explanation = find_score(text)
        if score is None or not self.low <= score <= self.high:
            return Verdict(None, text[:300], asked)
        return Verdict(score, explanation, asked)


def find_score(text: str) -> tuple[float | None, str]:
    """The number in an answer and the explanation beside it; None if there is no telling.

    A JSON object anywhere in the text counts before a loose ``score: 7``; several loose ones that differ
    do not count.
    """
    for found in re.finditer(r"\{[^{}]*\}", text):
        try:
            document = json.loads(found.group())
        except ValueError:
            continue
        score = _finite(document.get("score"))
        if score is not None:
            return score, str(document.get("explanation", ""))
    loose = {float(n) for n in LOOSE.findall(text)}
    return (loose.pop(), text[:300]) if len(loose) == 1 else (None, text[:300])


def _finite(value: Any) -> float | None:
    if isinstance(value, str) and re.fullmatch(NUMBER, value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
