"""One battery over every built-in reward, parametrised over the table."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import itscale.rewards
from itscale.rewards import BUILT_IN
from itscale.scoring import RewardSpec, as_reward, check_reward, known_names
from itscale.scoring.checking import synthetic_samples
from tests.tiny_scorers import PROMPTS

EXTRAS = {"molecules": "rdkit", "images": "open_clip"}
FACTS = {"conditions": 1, "prompts": "two cats", "meta": {"counts": {"cat": 2, "dog": 1}}}
ELSEWHERE = {
    "http",
    "isolated",
    "vlm-judge",
}  # whose facts and scores are somebody else's; they have tests of their own
HERE = [name for name in BUILT_IN if name not in ELSEWHERE]
ARGUMENTS = {  # of rewards that mean nothing without
    "docking": {"command": "echo -7.5 {smiles}", "pattern": r"^(\S+)"},
    "novelty": {"reference": "CCO"},
    "similarity": {"reference": ["CCO", "c1ccccc1"]},
    "substructure": {"smarts": "c1ccccc1"},
}

pytestmark = pytest.mark.usefixtures("tiny_weights")


def needed(name):
    """A built-in that can run here: its extra is installed."""
    extra = BUILT_IN[name].facts.get("extra")
    if extra is not None:
        pytest.importorskip(EXTRAS[extra])
    return as_reward({"name": name, **ARGUMENTS.get(name, {})})


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("seed", [0, 1])
def test_contract(name, seed):
    reward = needed(name)
    facts = {"prompts": PROMPTS, "conditions": [0, 1, 2, 3], "meta": FACTS["meta"]}
    results = check_reward(reward, synthetic_samples(reward, seed=seed), facts)
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []
    assert len(results) == 6


@pytest.mark.parametrize("name", HERE)
def test_facts_in_the_table_are_those_of_the_reward(name):
    reward, entry = needed(name), BUILT_IN[name]
    assert reward.spec == RewardSpec(name=name, **entry.facts)
    assert reward.name.partition("(")[0] == name
    assert reward.spec.doc
    assert reward.spec.range is not None


@pytest.mark.parametrize("name", HERE)
def test_scores_stay_in_the_stated_range(name):
    reward = needed(name)
    samples = synthetic_samples(reward, 5, seed=3)
    if reward.spec.modality == "image":
        samples[0], samples[1] = 0.0, 1.0
        samples[2, ..., ::2], samples[2, ..., 1::2] = 0.0, 1.0
    values = reward.score(samples, FACTS).values
    low, high = reward.spec.range
    assert low is None or values.min() >= low - 1e-6
    assert high is None or values.max() <= high + 1e-6


DIFFERENTIABLE = [n for n, entry in BUILT_IN.items() if entry.facts.get("differentiable")]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_is_finite_on_flat_images(name):
    reward = needed(name)
    assert reward.gradient_ready
    flat = torch.full((2, *(reward.spec.example_shape or (1, 16, 16))), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(reward.raw(flat, FACTS).sum(), flat)
    assert gradient.isfinite().all()


def test_every_file_is_in_the_table():
    helpers = {"table", "declare", "luminance", "learned", "molecule"}
    files = {path.stem for path in Path(itscale.rewards.__path__[-1]).glob("*.py")} - helpers
    assert files == {entry.target.partition(":")[0].rpartition(".")[2] for entry in BUILT_IN.values()}


def test_names_are_canonical_and_known():
    assert all(name == name.lower().replace("_", "-") for name in BUILT_IN)
    assert set(BUILT_IN) <= set(known_names())


def test_classes_are_reached_from_the_package():
    for entry in BUILT_IN.values():
        module, _, attribute = entry.target.partition(":")
        assert getattr(itscale.rewards, attribute) is getattr(importlib.import_module(module), attribute)
        assert attribute in dir(itscale.rewards)
    with pytest.raises(AttributeError, match="Symetry"):
        _ = itscale.rewards.Symetry


def test_table_is_read_without_torch():
    code = "import sys, itscale.rewards; assert itscale.rewards.BUILT_IN; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
