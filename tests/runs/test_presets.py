"""Recipes with published settings are complete but for a model and prompts, and can be planned."""

from __future__ import annotations

import pytest

from itscale.errors import ConfigError
from itscale.runs import load_config
from itscale.runs.planning import prepare_cell

SETTINGS = {
    "fk-steering-sdxl": ("stable_diffusion_xl", 400),
    "svdd-sd15": ("stable_diffusion", 1 + 20 * 49),
    "das-sd15": ("stable_diffusion", 1600),
    "rbf-flux-schnell": ("flux", 498),
    "noise-search-flux-dev": ("flux", 2700),
    "text-to-image": ("stable_diffusion", 500),
}
"""Recipe -> a tiny pipeline of its family, and the evaluations that it plans."""


@pytest.mark.parametrize("recipe", SETTINGS)
def test_recipe_is_planned_on_a_pipeline_of_its_family(recipe):
    family, nfe = SETTINGS[recipe]
    overrides = [
        f"model.name=itscale.models.pipelines.tiny:{family}",
        "prompts=[a cat]",
        "reward=brightness",
    ]
    if recipe == "rbf-flux-schnell":
        overrides.append("model.guided=false")
    cell = load_config(recipe, overrides).cells[0]
    assert cell.conditions == ["a cat"]
    assert prepare_cell(cell).plan.nfe == nfe


def test_recipe_without_a_model_says_what_to_give():
    with pytest.raises(ConfigError, match="a pipeline's folder"):
        load_config("text-to-image", ["prompts=[a cat]"])
