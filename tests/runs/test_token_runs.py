"""Runs of masked models: recipes, cells, molecules as drawings and files, and what reports show of them."""

from __future__ import annotations

import json

import pytest
import torch

from itscale.errors import ConfigError
from itscale.runs import load_config, report, run
from itscale.runs.molecules import internal_diversity, molecule_properties, properties
from itscale.runs.plots_molecules import pareto_front

pytest.importorskip("rdkit")

DNA = {
    "model": "dna-uniform",
    "reward": {"name": "dna-binding", "factor": "PAX3"},
    "value": {"name": "completions", "samples": 2},
    "run": {"tilt": 2.0, "groups": 2, "budget": {"nfe": 64}},
    "sweep": {"method": ["best-of-n", "smc"]},
}
MOLECULES = {
    "model": "molecules-tiny",
    "reward": "qed",
    "held_out": "synthesizability",
    "run": {"tilt": 10.0, "steps": 5, "seed": 1, "budget": {"nfe": 40}},
    "sweep": {"method": ["unguided", "smc"]},
}


@pytest.fixture(scope="module")
def molecules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("molecules") / "run"
    return run(MOLECULES, out=folder)


@pytest.mark.parametrize("name", ["dna", "molecules"])
def test_recipes_are_checked_and_cost_the_same(name):
    cells = load_config(name).cells
    assert all(cell.model.is_masked for cell in cells)
    assert {cell.process.schedule for cell in cells} == {"linear"}


def test_steps_are_one_per_position_unless_stated():
    cell = load_config(DNA).cells[0]
    assert cell.run.steps is None
    assert load_config(DNA, ["run.steps=4"]).cells[0].run.steps == 4
    continuous = load_config({"model": "gaussian-mixture", "method": "unguided"}).cells[0]
    assert continuous.run.steps == 50


def test_decoders_are_the_solvers_of_masked_models():
    cell = load_config(DNA, ["solver=confidence"]).cells[0]
    assert type(cell.solver).__name__ == "Confidence"
    with pytest.raises(ConfigError, match="first-hitting"):
        load_config(DNA, ["solver=first-hiting"])
    with pytest.raises(ConfigError, match="masked"):
        load_config(DNA, ["solver=heun"])


def test_texts_and_tokens_are_written_with_their_rewards(tmp_path):
    summary = run({**DNA, "model": "dna"}, out=tmp_path / "run")
    assert summary.exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert all(set(row["text"]) <= set("ACGT") for row in rows)
    assert all(len(row["text"]) == 8 for row in rows)
    best, plain = (next(r for r in summary.rows if r["method"] == m) for m in ("smc", "best-of-n"))
    assert 0 < plain["diversity"] <= 1
    assert best["nfe"] == plain["nfe"] == 64


def test_molecules_are_drawn_and_filed(molecules):
    assert molecules.exit_code == 0
    rows = [json.loads(line) for line in (molecules.folder / "samples.jsonl").read_text().splitlines()]
    answers = [row for row in rows if row["is_answer"]]
    assert all((molecules.folder / row["file"]).stat().st_size > 500 for row in answers)
    for row in rows:
        if row["smiles"]:
            assert row["properties"]["qed"] == pytest.approx(row["reward"], abs=1e-5)
            assert row["properties"]["synthesizability"] == pytest.approx(row["held_out"], abs=1e-5)
    from rdkit import Chem

    files = sorted((molecules.folder / "molecules").glob("*.smi"))
    assert len(files) == 2
    for file in files:
        lines = [line.split("\t") for line in file.read_text().splitlines()]
        found = list(Chem.SDMolSupplier(str(file.with_suffix(".sdf"))))
        assert [Chem.MolToSmiles(m) for m in found] == [line[0] for line in lines]
        rewards = [float(line[2]) for line in lines]
        assert rewards == sorted(rewards, reverse=True)
        assert [m.GetDoubleProp("reward") for m in found] == pytest.approx(rewards, rel=1e-5)


def test_reports_show_molecules(molecules):
    text = report(molecules.folder).read_text()
    assert "The molecules" in text
    assert "ease of synthesis" in text
    assert text.count("data:image/png;base64") == 2
    assert (molecules.folder / "grid.png").exists()


def test_diversity_is_what_fingerprints_say():
    found = internal_diversity([["CCO", "CCO"], ["CCO", "c1ccccc1"], ["CCO", ""]])
    assert found[0] == 0
    assert 0.8 < found[1] <= 1
    assert found[2].isnan()
    assert properties("")["qed"] is None
    assert molecule_properties([["OCC", ""]])[0][0]["smiles"] == "CCO"
    assert molecule_properties(None) is None


def test_diversity_of_tokens_is_the_share_that_differs(tmp_path):
    summary = run({**DNA, "sweep": {"method": ["unguided"]}}, out=tmp_path / "run")
    # letters of two uniform sequences differ with probability 3/4; 2 groups of 8 are 56 pairs of 8 letters
    assert summary.rows[0]["diversity"] == pytest.approx(0.75, abs=0.1)


def test_a_front_holds_what_nothing_exceeds():
    generator = torch.Generator().manual_seed(0)
    points = [tuple(p) for p in torch.rand(60, 2, generator=generator, dtype=torch.float64).tolist()]
    front = pareto_front([*points, *points[:3]])
    beaten = {p for p in points for q in points if q != p and q[0] >= p[0] and q[1] >= p[1]}
    assert set(front) == set(points) - beaten
    assert front == sorted(front)
