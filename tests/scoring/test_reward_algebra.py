"""Composition of rewards: values, gradients, parts and facts."""

import math

import pytest
import torch

from itscale.errors import ConfigError
from itscale.scoring import as_reward, log, minimum, reward

X = torch.tensor([[0.2, 0.9], [0.7, 0.4], [0.5, 0.5]])


@pytest.fixture
def a():
    return reward(name="a", differentiable=True, range=(0, 1), typical=(0.2, 0.8), scale_hint=0.1)(
        lambda x: x[:, 0]
    )


@pytest.fixture
def b():
    return reward(name="b", differentiable=True, range=(0, 1))(lambda x: x[:, 1])


COMPOSITIONS = {
    "a + b": (lambda a, b: a + b, lambda p, q: p + q),
    "a - b": (lambda a, b: a - b, lambda p, q: p - q),
    "-a": (lambda a, b: -a, lambda p, q: -p),
    "0.5 * a": (lambda a, b: 0.5 * a, lambda p, q: 0.5 * p),
    "a + 2": (lambda a, b: a + 2, lambda p, q: p + 2),
    "-a + 1": (lambda a, b: 1 - a, lambda p, q: 1 - p),
    "0.25 * a - 2 * b": (lambda a, b: a / 4 - b * 2, lambda p, q: p / 4 - 2 * q),
    "2 * (a - b)": (lambda a, b: 2 * (a - b), lambda p, q: 2 * (p - q)),
    "a * b": (lambda a, b: a * b, lambda p, q: p * q),
    "clip(a, 0.3, 0.6)": (lambda a, b: a.clip(0.3, 0.6), lambda p, q: p.clamp(0.3, 0.6)),
    "2 * a - 1": (lambda a, b: a.standardise(0.5, 0.5), lambda p, q: (p - 0.5) / 0.5),
    "log(a)": (lambda a, b: log(a), lambda p, q: p.log()),
    "minimum(a, b)": (lambda a, b: minimum(a, b), torch.minimum),
    "gate(a, (b > 0.45), otherwise=-3)": (
        lambda a, b: a.gate(b > 0.45, otherwise=-3),
        lambda p, q: torch.where(q > 0.45, p, -3.0),
    ),
}


@pytest.mark.parametrize("text", COMPOSITIONS)
def test_composition_equals_its_formula_in_value_gradient_and_name(text, a, b):
    compose, formula = COMPOSITIONS[text]
    composed = compose(a, b)
    assert composed.name == text
    assert composed.gradient_ready
    x = X.clone().requires_grad_(True)
    expected = formula(x[:, 0], x[:, 1])
    torch.testing.assert_close(composed.score(X).values, expected.detach())
    (claimed,) = torch.autograd.grad(composed.raw(x).sum(), x)
    (true,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(claimed, true)


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        (lambda r: r < 0.5, [1, 0, 0]),
        (lambda r: r <= 0.5, [1, 0, 1]),
        (lambda r: r > 0.5, [0, 1, 0]),
        (lambda r: r >= 0.5, [0, 1, 1]),
    ],
)
def test_comparisons_are_indicators_without_gradient(compare, expected, a):
    assert compare(a).score(X).values.tolist() == expected
    assert not compare(a).gradient_ready


def test_gate_forbids_by_default(a, b):
    scores = a.gate(b > 0.45).score(X)
    assert scores.values.tolist() == pytest.approx([0.2, -math.inf, 0.5])
    assert scores.valid.all()


def test_gate_on_a_reward_without_gradient_keeps_the_gradient(a):
    x = X.clone().requires_grad_(True)
    gated = a.gate(as_reward(lambda x: torch.from_numpy(x.numpy()[:, 1] - 0.45)), otherwise=0.0)
    (gradient,) = torch.autograd.grad(gated.raw(x).sum(), x)
    assert gradient[:, 0].tolist() == [1.0, 0.0, 1.0]


def test_log_of_zero_is_minus_infinity_and_of_less_is_invalid():
    scores = log(as_reward(lambda x: x)).score(torch.tensor([1.0, 0.0, -1.0]))
    assert scores.values.tolist() == [0.0, -math.inf, -math.inf]
    assert scores.valid.tolist() == [True, True, False]


def test_parts_hold_every_component(a, b):
    scores = (0.5 * (a - b).clip(-0.1, 0.1) + a).score(X)
    assert list(scores.parts) == ["a", "b"]
    torch.testing.assert_close(scores.parts["a"], X[:, 0])
    torch.testing.assert_close(scores.parts["b"], X[:, 1])


def test_components_of_one_name_are_kept_apart(a):
    other = reward(name="a")(lambda x: x[:, 1])
    assert list((a + other).score(X).parts) == ["a", "a #2"]


def test_a_function_used_twice_runs_once():
    calls = []

    def count(x):
        calls.append(1)
        return x[:, 0]

    twice = as_reward(count)
    twice.gate(twice > 0.3).score(X)
    assert len(calls) == 1


def test_promises_hold_only_if_all_make_them(a):
    noisy = reward(name="noisy", deterministic=False)(lambda x, prompts: x[:, 0])
    spec = (a + noisy).spec
    assert not spec.differentiable
    assert not spec.deterministic
    assert spec.needs_prompt


def test_ranges_add_up(a, b):
    assert (2 * a - b + 1).spec.range == (0.0, 3.0)
    assert (a + as_reward(lambda x: 0)).spec.range is None
    assert a.clip(0.1).spec.range == (0.1, None)
    assert (-2 * a).spec.typical == (-1.6, -0.4)
    assert (-2 * a).spec.scale_hint == pytest.approx(0.2)


def test_modalities_do_not_mix():
    with pytest.raises(ConfigError, match=r"different modalities.*\(image\).*\(molecule\)"):
        as_reward(lambda images: 0) + as_reward(lambda smiles: 0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: a.clip(),
        lambda a: a.clip(1, 0),
        lambda a: a.standardise(0, 0),
        lambda a: a.standardise(0, -1),
        lambda a: a / 0,
        lambda a: a * math.nan,
        lambda a: a + math.inf,
        lambda a: a > math.nan,
        lambda a: minimum(a),
    ],
)
def test_impossible_numbers_are_refused(wrong, a):
    with pytest.raises(ConfigError):
        wrong(a)


@pytest.mark.parametrize("wrong", [lambda a: a + {1}, lambda a: a * None, lambda a: 1 / a, lambda a: a / a])
def test_meaningless_operands_are_type_errors(wrong, a):
    with pytest.raises(TypeError):
        wrong(a)


def test_plain_functions_join_on_either_side(a):
    assert (a + (lambda x: x[:, 1])).score(X).values.tolist() == pytest.approx(X.sum(1).tolist())
    assert sum([a, a, a]).score(X).values.tolist() == pytest.approx((3 * X[:, 0]).tolist())
