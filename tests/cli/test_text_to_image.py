"""Steering a pipeline from the command line: two rewards, pictures with their facts, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from itscale.cli.app import app
from itscale.models.pipelines import tiny
from itscale.vision.places import FOLDER_VARIABLE
from tests.tiny_scorers import image_reward_folder, open_clip_folder

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = [
    {"tag": "colors", "prompt": "a photo of a red cube", "include": [{"class": "cube", "count": 1}]},
    "two dogs",
    "a green field",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text-to-image")
    tiny.stable_diffusion().save_pretrained(folder / "model")
    (folder / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PROMPTS))
    image_reward_folder(folder / "weights" / "image-reward")
    open_clip_folder(folder / "weights" / "clip-score")
    return folder


def words(out, *more, reward="brightness", held_out="contrast"):
    return [
        "run", "text-to-image", "model=model", "prompts=prompts.jsonl", f"reward={reward}",
        f"held_out={held_out}",
        "method=smc", "budget.nfe=12", "steps=3", "tilt=4", "--out", str(out), *more,
    ]  # fmt: skip


def summaries(folder):
    return {
        row["conditions"][0] if isinstance(row["conditions"][0], str) else row["conditions"][0]["prompt"]: row
        for row in (json.loads(p.read_text()) for p in folder.glob("cells/*/summary.json"))
    }


def test_run_is_planned_without_encoding_a_prompt(place, monkeypatch):
    monkeypatch.chdir(place)
    done = CliRunner().invoke(app, words("planned", "--dry-run"))
    assert done.exit_code == 0, done.output
    assert not (place / "planned").exists()


@pytest.mark.slow
def test_killed_run_goes_on_to_the_same_pictures(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv(FOLDER_VARIABLE, str(place / "weights"))
    learned = {"reward": "image-reward", "held_out": "clip-score"}
    whole = CliRunner().invoke(app, words("whole", **learned))
    assert whole.exit_code == 0, whole.output
    command = [sys.executable, "-c", "from itscale.cli import main; main()", *words("killed", **learned)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while not list(Path("killed").glob("cells/*/summary.json")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = summaries(Path("killed"))
    assert before, "the first cell was not finished in time"
    again = CliRunner().invoke(app, words("killed", "--resume", **learned))
    assert again.exit_code == 0, again.output
    mine, theirs = summaries(Path("killed")), summaries(Path("whole"))
    assert set(mine) == {"a photo of a red cube", "two dogs", "a green field"}
    for prompt, row in mine.items():
        assert row["reward"] == theirs[prompt]["reward"]
        assert row["held_out"] == theirs[prompt]["held_out"]
        assert row["seconds"] == before.get(prompt, row)["seconds"]  # what was done is not done again
    for name in ("report.html", "grid.png", "samples.jsonl", "summary.json"):
        assert (Path("killed") / name).stat().st_size > 0
    pictures = sorted(Path("killed/images").glob("*.png"))
    assert [p.name.split("_seed0-0")[0] for p in pictures] == [
        "a-green-field", "a-photo-of-a-red-cube", "two-dogs",
    ]  # fmt: skip
    for picture in pictures:
        with Image.open(picture) as one, Image.open(Path("whole/images") / picture.name) as other:
            assert one.tobytes() == other.tobytes()
    with Image.open(pictures[1]) as picture:
        facts = picture.info
        assert picture.size == (32, 32)
    assert "a photo of a red cube" in facts["itscale:condition"]
    assert float(facts["itscale:reward"]) == pytest.approx(mine["a photo of a red cube"]["reward"])
    rows = [json.loads(line) for line in (Path("killed") / "samples.jsonl").read_text().splitlines()]
    assert {row["condition"]["tag"] for row in rows if isinstance(row["condition"], dict)} == {"colors"}


def test_bad_settings_are_named_before_anything_runs(place, monkeypatch):
    monkeypatch.chdir(place)
    for change, message in [
        ("model=nowhere/at/all", "is no folder"),
        ("model.hieght=32", "Did you mean 'height'"),
        ("prompts=nothing.txt", "does not exist"),
        ("budget.nef=3", "Did you mean 'nfe'"),
    ]:
        done = CliRunner().invoke(app, [*words("bad"), change])
        assert done.exit_code != 0
        assert message in done.output + str(done.exception), change
    assert not Path("bad").exists()
