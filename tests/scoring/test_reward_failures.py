"""Rewards that fail in every way that a reward can, and what becomes of it."""

import math

import pytest
import torch

from itscale.errors import ConfigError, MissingExtra, RewardError, RewardShapeError
from itscale.scoring import as_reward, reward

SAMPLES = torch.arange(4.0)


def value_at(position, value):
    """A reward that returns ``value`` for one of the samples and 1 elsewhere."""
    return as_reward(lambda samples: torch.where(samples == position, value, 1.0))


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
def test_nan_and_inf_are_invalid_and_never_seen(value):
    scores = value_at(2, value).score(SAMPLES)
    assert scores.valid.tolist() == [True, True, False, True]
    assert scores.values.tolist() == [1.0, 1.0, -math.inf, 1.0]
    assert scores.reasons[2] == f"the score is {value}"


def test_minus_infinity_is_a_legal_score():
    scores = value_at(2, -math.inf).score(SAMPLES)
    assert scores.valid.all()
    assert scores.values[2] == -math.inf
    assert scores.reasons is None


@pytest.mark.parametrize(("value", "valid"), [(-math.inf, True), (math.nan, False)])
def test_floor_stands_in_for_minus_infinity(value, valid):
    floored = reward(floor=-50.0)(lambda samples: torch.where(samples == 2, value, 1.0))
    scores = floored.score(SAMPLES)
    assert scores.values.tolist() == [1.0, 1.0, -50.0, 1.0]
    assert bool(scores.valid[2]) is valid


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (torch.zeros(3), r"shape \[3\] for 4 samples; expected \[4\]"),
        (torch.zeros(4, 2), r"shape \[4, 2\]"),
        (torch.zeros(1, 4), r"shape \[1, 4\]"),
        (torch.zeros(1), r"shape \[1\]"),
        (0.5, r"shape \[\]"),
        (None, "returned None .* Is a 'return' missing"),
        (["a", "b", "c", "d"], "is not 4 numbers"),
        ({"score": 1}, "dict"),
        (torch.zeros(4, dtype=torch.complex64), "complex"),
    ],
    ids=["short", "wide", "row", "one", "scalar", "none", "words", "dict", "complex"],
)
def test_wrong_shape_raises_and_nothing_is_broadcast(out, said):
    with pytest.raises(RewardShapeError, match=said):
        reward(name="odd")(lambda samples: out).score(SAMPLES)


def test_wrong_shape_is_not_mistaken_for_a_failing_sample():
    calls = []

    def sums(samples):
        calls.append(len(samples))
        return samples.sum()

    with pytest.raises(RewardShapeError):
        as_reward(sums).score(SAMPLES)
    assert calls == [4]


def test_one_failing_sample_is_isolated():
    calls = []

    def picky(samples):
        calls.append(len(samples))
        if (samples == 2).any():
            raise ValueError("cannot parse it")
        return samples

    scores = as_reward(picky).score(SAMPLES)
    assert scores.values.tolist() == [0.0, 1.0, -math.inf, 3.0]
    assert scores.valid.tolist() == [True, True, False, True]
    assert scores.reasons == ["", "", "ValueError: cannot parse it", ""]
    assert calls == [4, 1, 1, 1, 1]


def test_only_the_failing_batch_is_retried():
    calls = []

    def picky(samples):
        calls.append(samples.tolist())
        if (samples == 3).any():
            raise ValueError
        return samples

    as_reward(picky).score(SAMPLES, batch_size=2)
    assert calls == [[0, 1], [2, 3], [2], [3]]


@pytest.mark.parametrize("m", [1, 4])
def test_failure_of_every_sample_raises_with_name_and_cause(m):
    @reward(name="broken")
    def broken(samples):
        raise KeyError("weights")

    with pytest.raises(
        RewardError, match=r"'broken' failed for all \d samples: KeyError: 'weights'"
    ) as caught:
        broken.score(SAMPLES[:m])
    assert isinstance(caught.value.__cause__, KeyError)


def test_total_failure_after_success_raises_too():
    state = {"up": True}

    def flaky(samples):
        if not state["up"]:
            raise ConnectionError("gone")
        return samples

    flaky = as_reward(flaky)
    flaky.score(SAMPLES)
    state["up"] = False
    with pytest.raises(RewardError, match="ConnectionError: gone"):
        flaky.score(SAMPLES)


def test_lone_failing_sample_after_success_is_invalid():
    def picky(samples):
        if (samples == 2).any():
            raise ValueError("no")
        return samples

    picky = as_reward(picky)
    picky.score(SAMPLES[:1])
    scores = picky.score(SAMPLES[2:3])
    assert not scores.valid.any()
    assert scores.reasons == ["ValueError: no"]


@pytest.mark.parametrize("error", [ImportError("no module"), MissingExtra("needs rdkit: pip install ...")])
def test_missing_package_raises_at_once(error):
    calls = []

    @reward(name="heavy")
    def heavy(samples):
        calls.append(1)
        raise error

    with pytest.raises(RewardError, match="'heavy' cannot run: ") as caught:
        heavy.score(SAMPLES)
    assert caught.value.__cause__ is error
    assert len(calls) == 1


def test_own_errors_pass_untouched():
    def strict(samples):
        raise ConfigError("label is 11; give a digit")

    with pytest.raises(ConfigError, match="label is 11"):
        as_reward(strict).score(SAMPLES)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")],
    ids=["host", "device", "allocator"],
)
def test_out_of_memory_halves_the_batch_and_remembers(error):
    calls = []

    def hungry(samples):
        calls.append(len(samples))
        if len(samples) > 3:
            raise error
        return samples

    hungry = as_reward(hungry)
    samples = torch.arange(10.0)
    assert hungry.score(samples).values.tolist() == samples.tolist()
    assert calls == [10, 5, 2, 2, 2, 2, 2]
    calls.clear()
    hungry.score(samples)
    assert calls == [2, 2, 2, 2, 2]


def test_out_of_memory_with_one_sample_raises_with_advice():
    def hungry(samples):
        raise MemoryError

    with pytest.raises(RewardError, match=r"out of memory with a single sample.*another device"):
        as_reward(hungry).score(SAMPLES)


def test_keyboard_interrupt_is_not_caught():
    def stop(samples):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        as_reward(stop).score(SAMPLES)


@pytest.mark.parametrize("operands", [1, 2])
def test_invalid_for_one_operand_is_invalid_for_the_composition(operands):
    whole = value_at(2, math.nan)
    if operands == 2:
        whole = whole - as_reward(lambda samples: samples)
    scores = (-whole).score(SAMPLES)
    assert scores.valid.tolist() == [True, True, False, True]
    assert scores.values[2] == -math.inf
    assert "nan" in scores.reasons[2]
