"""What ``Reward.score`` accepts and promises, apart from failures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itscale.errors import ConfigError, RewardError, UnknownName
from itscale.scoring import Scores, as_reward, reward

IMAGES = torch.linspace(0, 1, 4 * 3 * 2 * 2).reshape(4, 3, 2, 2)
MEANS = IMAGES.mean(dim=(1, 2, 3))


@pytest.mark.parametrize(
    "convert",
    [
        lambda v: v,
        lambda v: v[:, None],
        lambda v: v.tolist(),
        lambda v: v.numpy(),
        list,
    ],
    ids=["tensor", "column", "list", "numpy", "list of tensors"],
)
def test_every_form_of_m_numbers_becomes_float32(convert):
    scores = as_reward(lambda images: convert(images.mean((1, 2, 3)))).score(IMAGES)
    assert scores.values.dtype == torch.float32
    torch.testing.assert_close(scores.values, MEANS)
    assert scores.valid.all()
    assert scores.reasons is None
    assert scores.calls == 4


def test_float64_scores_keep_their_precision():
    third = torch.tensor([1 / 3] * len(IMAGES), dtype=torch.float64)
    scores = as_reward(lambda images: third).score(IMAGES)
    assert torch.equal(scores.values, third)


def test_scalar_is_accepted_for_one_sample():
    assert as_reward(lambda images: 0.5).score(IMAGES[:1]).values.tolist() == [0.5]


@given(m=st.integers(0, 9), size=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_batches_partition_the_samples_in_order(m, size):
    seen = []

    def position(samples, meta):
        seen.append(len(samples))
        assert [entry["i"] for entry in meta] == samples.tolist()
        return samples

    meta = [{"i": i} for i in range(m)]
    scores = as_reward(position).score(torch.arange(m), {"meta": meta}, batch_size=size)
    assert scores.values.tolist() == list(range(m))
    assert sum(seen) == m
    assert all(k <= size for k in seen)


def test_facts_are_matched_by_name():
    got = {}

    def nosy(images, t, prompts, conditions=None, step=None, is_final=False):
        got.update(t=t, prompts=prompts, conditions=conditions, step=step, is_final=is_final)
        return images.mean((1, 2, 3))

    facts = {"t": 0.5, "prompts": "a cat", "conditions": torch.arange(4), "step": 3, "is_final": True}
    as_reward(nosy).score(IMAGES, facts)
    assert got["prompts"] == ["a cat"] * 4
    assert got["conditions"].tolist() == [0, 1, 2, 3]
    assert (got["t"], got["step"], got["is_final"]) == (0.5, 3, True)


def test_per_sample_facts_are_cut_with_the_batch():
    def own(samples, conditions, t):
        return samples * 0 + torch.as_tensor(conditions) + t

    facts = {"conditions": [0, 1, 2], "t": torch.tensor([0.0, 0.1, 0.2])}
    values = as_reward(own).score(torch.zeros(3), facts, batch_size=2).values
    torch.testing.assert_close(values, torch.tensor([0.0, 1.1, 2.2]))


def test_open_keyword_gets_all_facts_and_underscore_none():
    counts = {}

    def everything(images, **facts):
        counts["everything"] = sorted(facts)
        return images.mean((1, 2, 3))

    def nothing(images, **_):
        counts["nothing"] = sorted(_)
        return images.mean((1, 2, 3))

    for function in (everything, nothing):
        as_reward(function).score(IMAGES, {"t": 1.0, "step": 0})
    assert counts == {"everything": ["step", "t"], "nothing": []}


def test_module_is_called_with_samples_by_position():
    class Head(torch.nn.Module):
        def forward(self, x):
            return x.mean((1, 2, 3))

    torch.testing.assert_close(as_reward(Head()).score(IMAGES).values, MEANS)


def test_misspelt_fact_of_the_caller_is_named():
    with pytest.raises(UnknownName, match=r"'condition'.*'conditions'"):
        as_reward(lambda images: images.mean((1, 2, 3))).score(IMAGES, {"condition": 3})


def test_facts_of_another_length_are_refused():
    with pytest.raises(ConfigError, match="prompts has 2 entries for 4 samples"):
        as_reward(lambda images: images.mean((1, 2, 3))).score(IMAGES, {"prompts": ["a", "b"]})


def test_missing_required_fact_is_named():
    with pytest.raises(ConfigError, match="needs prompts"):
        as_reward(lambda images, prompts: images.mean((1, 2, 3))).score(IMAGES)


def test_required_prompts_show_in_the_facts():
    assert as_reward(lambda images, prompts: 0).spec.needs_prompt
    assert not as_reward(lambda images, prompts=None: 0).spec.needs_prompt


def test_required_parameter_that_is_no_fact_is_refused():
    with pytest.raises(UnknownName, match=r"'promts'.*'prompts'"):
        as_reward(lambda images, promts: 0)


def test_function_without_samples_is_refused():
    with pytest.raises(ConfigError, match="takes no samples"):
        as_reward(lambda: 0)


@pytest.mark.parametrize(
    ("name", "modality"), [("images", "image"), ("smiles", "molecule"), ("texts", "text")]
)
def test_modality_comes_from_the_parameter_name(name, modality):
    scope = {}
    exec(f"def f({name}): return 0", scope)
    assert as_reward(scope["f"]).spec.modality == modality


@pytest.mark.parametrize(
    "scale", [lambda x: 2 * x - 1, lambda x: 255 * x], ids=["minus one to one", "0 to 255"]
)
def test_images_out_of_range_raise_naming_the_range(scale):
    with pytest.raises(RewardError, match=r"'plain'.*values from .* to .*\[0, 1\]"):
        reward(name="plain")(lambda images: images.mean((1, 2, 3))).score(scale(IMAGES))


def test_rounding_beyond_the_range_is_tolerated():
    as_reward(lambda images: images.mean((1, 2, 3))).score(IMAGES * 1.0009)


def test_image_with_nan_is_invalid_and_not_scored():
    images = IMAGES.clone()
    images[1, 0, 0, 0] = float("nan")
    seen = []

    def count(images, conditions):
        seen.extend(conditions)
        return images.mean((1, 2, 3))

    scores = as_reward(count).score(images, {"conditions": [0, 1, 2, 3]})
    assert seen == [0, 2, 3]
    assert scores.valid.tolist() == [True, False, True, True]
    assert scores.values[1] == -torch.inf
    assert "NaN" in scores.reasons[1]
    assert scores.reasons[0] == ""
    assert scores.calls == 3
    torch.testing.assert_close(scores.values[[0, 2, 3]], MEANS[[0, 2, 3]])


def test_only_nan_images_give_only_invalid_scores():
    scores = as_reward(lambda images: images.mean((1, 2, 3))).score(IMAGES * float("nan"))
    assert not scores.valid.any()
    assert scores.calls == 0


def test_grey_images_reach_an_rgb_reward_as_a_view():
    @reward(needs_rgb=True)
    def shape(images):
        assert images.shape[1] == 3
        assert images.stride(1) == 0
        return images.sum((1, 2, 3))

    torch.testing.assert_close(shape.score(torch.ones(2, 1, 2, 2)).values, torch.full((2,), 12.0))


def test_other_forms_of_images_are_converted():
    pixels = (IMAGES.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    values = as_reward(lambda images: images.mean((1, 2, 3))).score(pixels).values
    np.testing.assert_allclose(values, MEANS, atol=1 / 255)


def test_scores_carry_no_gradient_and_raw_does():
    mean = reward(differentiable=True)(lambda images: images.mean((1, 2, 3)))
    x = IMAGES.clone().requires_grad_(True)
    assert not mean.score(x).values.requires_grad
    (gradient,) = torch.autograd.grad(mean.raw(x).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 1 / 12))


def test_raw_refuses_a_reward_without_gradient():
    with pytest.raises(ConfigError, match=r"no gradient.*declare differentiable=True"):
        as_reward(lambda images: images.mean((1, 2, 3))).raw(IMAGES)


def test_raw_notices_a_broken_graph():
    broken = reward(differentiable=True)(lambda images: images.detach().mean((1, 2, 3)))
    with pytest.raises(RewardError, match="does not depend on the samples"):
        broken.raw(IMAGES.clone().requires_grad_(True))


def test_reward_may_return_scores_with_parts_and_reasons():
    def rich(smiles):
        valid = torch.tensor([s != "" for s in smiles])
        lengths = torch.tensor([float(len(s)) for s in smiles])
        reasons = ["" if s else "empty" for s in smiles]
        return Scores.of(lengths, valid=valid, parts={"length": lengths}, reasons=reasons)

    scores = as_reward(rich).score(["CCO", "", "C"], batch_size=2)
    assert scores.values.tolist() == [3.0, -torch.inf, 1.0]
    assert scores.valid.tolist() == [True, False, True]
    assert scores.reasons == ["", "empty", ""]
    assert scores.parts["length"].tolist() == [3.0, 0.0, 1.0]
    assert scores.first_reason == "empty"
