"""The expression language: what it computes, and what it refuses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itscale.errors import ConfigError
from itscale.scoring import as_reward

IMAGES = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(1))
INK = IMAGES.mean((1, 2, 3))


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("2*3*ink", lambda r: 6 * r),
        ("ink/4 + 1", lambda r: r / 4 + 1),
        ("-ink", lambda r: -r),
        ("+ink - -2", lambda r: r + 2),
        ("1 - (ink - 1)*2", lambda r: 1 - (r - 1) * 2),
        ("ink*ink", lambda r: r * r),
        ("ink-ink", lambda r: 0 * r),
        ("log(ink)", torch.log),
        ("minimum(ink, 2*ink - 0.5)", lambda r: torch.minimum(r, 2 * r - 0.5)),
        ("clip(ink, 0.5)", lambda r: r.clamp(0.5)),
        ("clip(ink, high=0.5)", lambda r: r.clamp(max=0.5)),
        ("standardise(ink, 0.5, 0.1)", lambda r: (r - 0.5) / 0.1),
        ("gate(ink, ink - 0.5, otherwise=-2)", lambda r: torch.where(r > 0.5, r, -2.0)),
        ("gate(ink, ink - 0.5)", lambda r: torch.where(r > 0.5, r, -math.inf)),
    ],
)
def test_expression_equals_its_formula(text, formula):
    torch.testing.assert_close(as_reward(text).score(IMAGES).values, formula(INK), rtol=1e-5, atol=1e-6)


@given(
    st.recursive(
        st.sampled_from(["ink", "brightness", "2", "0.5"]),
        lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
            lambda p: f"({p[0]} {p[1]} {p[2]})"
        ),
        max_leaves=8,
    ).filter(lambda text: "ink" in text or "brightness" in text)
)
@settings(max_examples=60, deadline=None)
def test_arithmetic_agrees_with_python(text):
    grey = IMAGES[:, :1]
    mean = grey.mean((1, 2, 3)).double()
    expected = eval(text, {"__builtins__": {}}, {"ink": mean, "brightness": mean})
    torch.testing.assert_close(as_reward(text).score(grey).values.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "ink.__class__",
        "ink.score",
        "(ink).clip(0, 1)",
        "symmetry(axis=__import__('os'))",
        "symmetry(axis=ink)",
        "symmetry(axis=[1][0])",
        "symmetry(**{'axis': 'v'})",
        "symmetry(*['v'])",
        "ink[0]",
        "ink if 1 else ink",
        "[ink for x in (1,)]",
        "lambda images: 0",
        "ink ** 2",
        "ink // 2",
        "ink @ ink",
        "ink > 0.5",
        "ink and ink",
        "not ink",
        "(x := ink)",
        "f'{ink}'",
        "ink, ink",
        "'ink'",
        "ink + 'ink'",
        "ink + True",
        "ink + 1j",
        "ink / ink",
        "1 / ink",
        "ink / 0",
        "ink + 1/0",
        "ink * 1e999",
        "log(ink, base=2)",
        "clip(ink)",
        "clip()",
        "log(2)",
        "3 + 4",
        "__import__('os').system('true')",
        "ink" + " + ink" * 500,
        "(" * 500 + "ink" + ")" * 500,
        "ink; ink",
        "ink\nimport os",
    ],
)
def test_everything_else_is_refused(text):
    with pytest.raises(ConfigError):
        as_reward(text)


def test_refusal_names_the_piece():
    with pytest.raises(ConfigError, match=r"'ink\.__class__' in the reward .* is not allowed"):
        as_reward("2*ink + ink.__class__")
