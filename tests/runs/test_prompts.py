"""Prompts come from files, one cell each, and broken lines are named."""

from __future__ import annotations

import json

import pytest

from itscale.errors import ConfigError
from itscale.runs import load_config
from itscale.runs.prompts import Prompts, read_prompts

GENEVAL = {"tag": "counting", "include": [{"class": "dog", "count": 2}], "prompt": "a photo of two dogs"}


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    path = written(tmp_path, "p.txt", "# mine\na red cube\n\n  a blue ball \n")
    assert read_prompts(path) == ["a red cube", "a blue ball"]


def test_json_lines_keep_what_else_they_say(tmp_path):
    path = written(tmp_path, "p.jsonl", f'{json.dumps(GENEVAL)}\n"a red cube"\n{{"prompt": "a ball"}}\n')
    assert read_prompts(path) == [GENEVAL, "a red cube", "a ball"]


def test_tables_are_read_by_the_name_of_their_column(tmp_path):
    path = written(tmp_path, "drawbench.csv", 'Prompts,Category\n"a cat, asleep",Colors\nred dog,\n')
    assert read_prompts(path) == [{"prompt": "a cat, asleep", "Category": "Colors"}, "red dog"]
    path = written(tmp_path, "p.tsv", "tag\tprompt\nx\ta cat\n")
    assert read_prompts(path) == [{"prompt": "a cat", "tag": "x"}]
    assert read_prompts(written(tmp_path, "p.json", '["a", {"caption": "b"}]')) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.jsonl", '"a"\n{"prompt": \n{"tag": 1}\n{"prompt": 3}\n4\n', r"4 broken lines: line 2: no JSON .*"
         r"line 3: no 'prompt' among tag; line 4: prompt is 3 and 1 more"),
        ("p.txt", "# nothing\n", "holds no prompts"),
        ("p.json", "{}", "must hold a list"),
        ("p.json", "[", "not valid JSON"),
        ("p.doc", "a cat", r"must end in \.txt"),
    ],
)  # fmt: skip
def test_broken_files_say_where(tmp_path, name, text, message):
    with pytest.raises(ConfigError, match=message):
        read_prompts(written(tmp_path, name, text))


def test_a_missing_file_names_its_neighbours(tmp_path):
    written(tmp_path, "prompts.jsonl", '"a"')
    with pytest.raises(ConfigError, match=r"does not exist\. There: prompts\.jsonl"):
        read_prompts(tmp_path / "promts.jsonl")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_prompts(tmp_path / "latin.txt")


def test_a_part_of_a_file_may_be_taken(tmp_path):
    path = str(written(tmp_path, "p.txt", "a\nb\nc\nd\n"))
    assert Prompts.read(path) == [["a"], ["b"], ["c"], ["d"]]
    assert Prompts.read({"file": path, "first": 1, "count": 3, "together": 2}) == [["b", "c"], ["d"]]
    assert Prompts.read(["a", "b"]) == [["a"], ["b"]]
    for bad, message in [
        ({"file": path, "first": 9}, "none after 9"),
        ({"file": path, "count": 0}, "prompts.count"),
        ({"file": path, "cuont": 1}, "Did you mean 'count'"),
        ({"count": 1}, "needs a file"),
        (3, "give a file"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Prompts.read(bad)


SCENES = {
    "model": "scenes",
    "prompts": ["3 red circles", {"prompt": "1 blue square", "tag": "one"}],
    "reward": "scene-count",
    "run": {"steps": 2, "budget": {"nfe": 4}},
}


def test_every_prompt_is_a_cell_of_every_method():
    config = load_config({**SCENES, "prompts": ["3 red circles", "1 blue square"]}, ["method=smc"])
    assert [cell.conditions for cell in config.cells] == [["3 red circles"], ["1 blue square"]]
    assert config.cells[1].label == "smc, 1 blue square"
    swept = load_config({**SCENES, "prompts": ["a", "b"], "sweep": {"method": ["smc", "svdd"]}})
    assert [cell.method_label for cell in swept.cells] == ["smc", "svdd"] * 2
    with pytest.raises(ConfigError, match="give one of them"):
        load_config({**SCENES, "model": {"name": "scenes", "condition": "3 red circles"}})


def test_settings_of_the_run_are_named_without_their_section():
    config = load_config({**SCENES, "prompts": ["a"]}, ["budget.nfe=40", "steps=5", "seed=3"])
    run = config.cells[0].run
    assert (run.budget.nfe, run.steps, run.seed) == (40, 5, 3)
