"""The cache: hits, duplicates, keys, eviction."""

import pytest
import torch

from itscale.errors import ConfigError
from itscale.scoring import Cached, as_reward, reward


class Counting:
    """The sum of a sample, remembering what it was asked."""

    def __init__(self):
        self.seen = []

    def __call__(self, samples, prompts=None):
        self.seen.extend(samples[:, 0].tolist())
        bonus = torch.tensor([float(len(p or "")) for p in prompts or [""] * len(samples)])
        return samples.sum(1) + bonus


def rows(*values):
    return torch.tensor([[float(v), 1.0] for v in values])


@pytest.fixture
def counting():
    return Counting()


def test_second_scoring_is_answered_from_memory(counting):
    cache = Cached(counting)
    cached = as_reward(cache)
    first = cached.score(rows(1, 2, 3))
    second = cached.score(rows(3, 1, 4))
    assert counting.seen == [1, 2, 3, 4]
    assert second.values.tolist() == [4.0, 2.0, 5.0]
    assert (first.calls, second.calls) == (3, 1)
    assert (cache.hits, cache.misses) == (2, 4)


def test_duplicates_in_one_batch_are_scored_once(counting):
    cache = Cached(counting)
    scores = as_reward(cache).score(rows(5, 6, 5, 5, 6))
    assert counting.seen == [5, 6]
    assert scores.values.tolist() == [6.0, 7.0, 6.0, 6.0, 7.0]
    assert (scores.calls, cache.hits) == (2, 3)


def test_facts_that_are_asked_for_belong_to_the_key(counting):
    cached = as_reward(Cached(counting))
    cached.score(rows(1, 1), {"prompts": ["a", "bb"], "t": 0.1})
    cached.score(rows(1, 1), {"prompts": ["a", "bb"], "t": 0.2})  # it never asks for t
    assert counting.seen == [1, 1]
    assert cached.score(rows(1), {"prompts": "bb"}).values.tolist() == [4.0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"meta": {"a": 1}}, {"meta": {"a": 2}}),
        ({"meta": {"a": [1, 2]}}, {"meta": {"a": [12]}}),
        ({"meta": {"a": torch.zeros(2)}}, {"meta": {"a": torch.zeros(2, 1)}}),
        ({"conditions": [1]}, {"conditions": ["1"]}),
        ({"conditions": torch.tensor([1])}, {"conditions": torch.tensor([2])}),
    ],
)
def test_different_facts_have_different_keys(one, other):
    calls = []

    def nosy(samples, meta=None, conditions=None):
        calls.append(1)
        return samples[:, 0]

    cached = as_reward(Cached(nosy))
    for facts in (one, other, one):
        cached.score(rows(1), facts)
    assert len(calls) == 2


def test_least_recently_used_goes_first(counting):
    cached = as_reward(Cached(counting, size=2))
    for value in (1, 2, 1, 3, 1, 2):
        cached.score(rows(value))
    assert counting.seen == [1, 2, 3, 2]


def test_batch_larger_than_the_cache_is_complete(counting):
    scores = as_reward(Cached(counting, size=1)).score(rows(1, 2, 3, 2))
    assert scores.values.tolist() == [2.0, 3.0, 4.0, 3.0]


def test_invalid_scores_are_remembered_with_their_reason():
    cached = as_reward(Cached(lambda samples: samples[:, 0] / 0 * 0))
    for _ in range(2):
        scores = cached.score(rows(1, 2))
        assert not scores.valid.any()
        assert scores.reasons == ["the score is nan"] * 2


def test_strings_and_half_precision_are_compared_by_content():
    lengths = as_reward(Cached(lambda smiles: [len(s) for s in smiles]))
    assert lengths.score(["CCO", "C", "CCO"]).calls == 2
    halves = as_reward(Cached(lambda x: x[:, 0]))
    assert halves.score(rows(1, 1, 2).bfloat16()).calls == 2


def test_cached_composition_keeps_parts_and_gradient(counting):
    mean = reward(name="mean", differentiable=True)(lambda x: x.mean(1))
    cached = as_reward(Cached(2 * mean))
    assert list(cached.score(rows(1, 2)).parts) == ["mean"]
    assert (Cached(mean) + 1).score(rows(1)).values.tolist() == [2.0]
    x = rows(1, 2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(cached.raw(x).sum(), x)
    assert gradient.flatten().tolist() == [1.0] * 4


def test_random_reward_is_refused():
    with pytest.raises(ConfigError, match="not deterministic"):
        Cached(reward(deterministic=False)(lambda samples: samples))


def test_objects_without_content_are_refused():
    cached = as_reward(Cached(lambda samples, meta: samples[:, 0]))
    with pytest.raises(ConfigError, match="cannot compare object"):
        cached.score(rows(1), {"meta": {"a": object()}})


def test_empty_cache_is_refused():
    with pytest.raises(ConfigError, match="size 0"):
        Cached(lambda samples: samples, size=0)
