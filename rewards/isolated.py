"""A reward in another Python environment, for scorers whose requirements cannot be met here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.remote.payload import decode_scores
from itscale.remote.process import FORMS, Child
from itscale.remote.process import Isolated as Source
from itscale.scoring import RewardSpec, Scores
from itscale.scoring.spec import MODALITIES
from itscale.vision.image_text import resident

from .declare import built_in, check_choice
from .table import BUILT_IN

HERE = torch.device("cpu")


@built_in("isolated")
@dataclass(frozen=True)
class Isolated:
    """Whatever a function or class in another environment returns for the samples.

    It runs in a child process of that environment's interpreter, which needs numpy and nothing of itscale.
    Samples and scores travel as raw bytes, never as pickles. A child that crashes is started again once. The
    child starts when the reward is made, so that what cannot be loaded there is an error at once. No
    gradient passes.

    Args:
        python: interpreter of the other environment.
        target: ``module:attribute`` there, or ``path/file.py:attribute``: a function of samples, or a class
            whose instances are one. It may ask for ``prompts``, ``conditions``, ``meta``, ``t``, ... by name,
            and returns one number per sample, or a mapping with ``scores`` and ``parts``.
        args: arguments of the class or function; what JSON can hold.
        modality: of the samples.
        form: how images arrive there: ``"numpy"`` float32 ``[m, 3, h, w]`` in [0, 1], ``"torch"`` the same,
            ``"pil"`` a list of pictures.
        start_timeout: seconds to import and load.
        call_timeout: seconds for a call.
        sample_timeout: seconds more for each sample of a call.
    """

    python: str
    target: str
    args: Mapping[str, Any] | None = None
    modality: str = "image"
    form: str = field(default="numpy", repr=False)
    start_timeout: float = field(default=300.0, repr=False)
    call_timeout: float = field(default=60.0, repr=False)
    sample_timeout: float = field(default=2.0, repr=False)
    _source: Source = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("isolated", "form", self.form, FORMS)
        check_choice("isolated", "modality", self.modality, MODALITIES)
        for limit in ("start_timeout", "call_timeout", "sample_timeout"):
            if not getattr(self, limit) > 0:
                raise ConfigError(
                    f"reward 'isolated': {limit} is {getattr(self, limit)!r}; give seconds above 0"
                )
        try:
            arguments = json.dumps(dict(self.args or {}), sort_keys=True)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"reward 'isolated': args={self.args!r} cannot be sent as JSON ({error}); give numbers, "
                "texts and lists"
            ) from error
        timeouts = (self.start_timeout, self.call_timeout, self.sample_timeout)
        source = Source(self.python, self.target, arguments, self.form, *timeouts).check()
        object.__setattr__(self, "_source", source)
        self._child()

    @property
    def spec(self) -> RewardSpec:
        """The facts of the table, for the modality that was given."""
        facts = {**BUILT_IN["isolated"].facts, "modality": self.modality}
        return RewardSpec(name="isolated", **{**facts, "needs_rgb": self.modality == "image"})

    def __call__(self, samples: Any, **facts: Any) -> Scores:
        count = len(samples)
        plain = {name: _plain(value) for name, value in facts.items()}
        answer = self._child().score(_plain(samples), plain, count)
        return decode_scores(answer, count, self.target)

    def _child(self) -> Child:
        return resident(self._source, HERE)


def _plain(value: Any) -> Any:
    """Tensors as arrays; the rest is sent as JSON."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value
