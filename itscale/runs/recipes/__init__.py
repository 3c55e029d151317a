"""Recipes: configurations that ship with the package, by name."""

from __future__ import annotations

from pathlib import Path

RECIPES: dict[str, str] = {
    "dna": "DNA that one factor binds, by a model of what another binds: three budgets of reward calls",
    "inpainting": "reconstruct digits from noisy measurements: five problems, five methods at equal "
    "cost, with a calibration plot",
    "molecules": "drug-like molecules that are easy to make: five methods at equal cost, in about a minute",
    "quickstart": "write digits boldly but readably: four methods at equal cost, in under a minute on a CPU",
    "composition": "digits that are a 3 and a 5 at once: a product of two conditions, weighted and not",
    "rbf-paper": "rollover budget forcing in its published setting, beside three methods at 500 evaluations",
    "scaling": "what compute buys: three methods, three budgets, three digits, four seeds; for itscale sweep",
    "text-to-image": "steer a diffusers pipeline: model=FOLDER prompts=FILE reward=NAME budget.nfe=500",
    "fk-steering-sdxl": "FK steering as published; give model=FOLDER prompts=FILE",
    "svdd-sd15": "SVDD on Stable Diffusion 1.5 as published; give model=FOLDER prompts=FILE",
    "das-sd15": "DAS on Stable Diffusion 1.5; give model=FOLDER prompts=FILE",
    "rbf-flux-schnell": "rollover budget forcing on FLUX.1 schnell as published; give model=FOLDER "
    "prompts=FILE",
    "noise-search-flux-dev": "zero-order noise search on FLUX.1 dev; give model=FOLDER prompts=FILE",
    "scenes": "draw the objects a prompt counts and places: four methods at equal cost, on a CPU",
}


def recipe_path(name: str) -> Path:
    """Return the file of a recipe."""
    return Path(__file__).parent / f"{name}.yaml"
