"""A reward behind a server, in whatever language and on whatever machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from itscale.errors import RewardError
from itscale.remote.http_client import Endpoint
from itscale.remote.payload import ENCODINGS, decode_scores, encode_facts, encode_samples
from itscale.scoring import RewardSpec, Scores
from itscale.scoring.spec import MODALITIES

from .declare import built_in, check_choice
from .table import BUILT_IN

COPIED = (
    "modality", "deterministic", "needs_prompt", "needs_rgb", "range", "typical", "scale_hint", "batch_size",
    "example_shape", "licence", "version", "doc",
)  # fmt: skip


@built_in("http")
@dataclass(frozen=True)
class Http:
    """The scores of a server that speaks ``GET /spec`` and ``POST /score``, as ``itscale serve-reward`` does.

    The server is asked for its facts when the reward is made. While it is away requests are repeated with
    growing pauses; then the run stops and can be resumed. No gradient passes.

    Args:
        url: ``http://host:port``. The text alone stands for the reward too.
        encoding: of images: ``"png"``, rounded to 8 bits, or ``"npy"``, float32 at six times the size.
        token_env: environment variable that holds a bearer token.
        timeout: seconds for one answer.
        total: seconds to go on asking a server that is away.
        on_unavailable: ``"raise"`` after that, or ``"wait"`` for ever.
    """

    url: str = field(repr=False)
    encoding: str = "png"
    token_env: str | None = field(default=None, repr=False)
    timeout: float = field(default=120.0, repr=False)
    total: float = field(default=120.0, repr=False)
    on_unavailable: str = field(default="raise", repr=False)
    spec: RewardSpec = field(init=False, repr=False)
    _wanted: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("http", "encoding", self.encoding, ENCODINGS)
        stated = self._endpoint().check("http").get("/spec")
        if not isinstance(stated, dict) or stated.get("modality") not in MODALITIES:
            raise RewardError(
                f"{self.url}/spec answers no facts of a reward: {str(stated)[:80]}; expected an object with "
                f"'modality', one of {', '.join(MODALITIES)}"
            )
        facts = {name: stated[name] for name in COPIED if stated.get(name) is not None}
        for name in ("range", "typical", "example_shape"):
            if name in facts:
                facts[name] = tuple(facts[name])
        name = f"http:{stated.get('name', self.url)}"
        spec = RewardSpec(**{**BUILT_IN["http"].facts, **facts, "name": name})
        object.__setattr__(self, "spec", spec)
        object.__setattr__(self, "_wanted", tuple(stated.get("wanted") or ("prompts", "conditions", "meta")))

    def __call__(self, samples: Any, **facts: Any) -> Scores:
        request = encode_samples(samples, self.spec.modality, self.encoding)
        request |= encode_facts({name: facts[name] for name in self._wanted if name in facts})
        answer = self._endpoint().post("/score", request)
        return decode_scores(answer, len(samples), f"{self.url}/score")

    def _endpoint(self) -> Endpoint:
        return Endpoint(self.url, self.token_env, self.timeout, self.total, self.on_unavailable)
