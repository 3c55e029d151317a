"""A judge behind an OpenAI-compatible endpoint, played by a server of the test."""

from __future__ import annotations

import base64
import json

import pytest
import torch

from itscale.errors import ConfigError, RewardError
from itscale.remote import http_client
from itscale.remote.judging import find_score
from itscale.remote.payload import from_png
from itscale.scoring import as_image_batch, as_reward
from tests.remote.servers import Fake, running
from tests.tiny_scorers import images

FACTS = {"prompts": ["a red apple", "two cats"]}


def says(*contents):
    """Answers in the form of the protocol."""
    return [(200, {"choices": [{"message": {"role": "assistant", "content": c}}]}) for c in contents]


def verdict(score, explanation="because"):
    return json.dumps({"explanation": explanation, "score": score})


def judge(server, **options):
    return as_reward({"name": "vlm-judge", "url": f"{server.url}/v1", "model": "m", "workers": 1, **options})


def question(request):
    return request["messages"][0]["content"][1]["text"]


def test_score_is_the_number_in_the_answer():
    with running(Fake(*says(verdict(7), verdict(2.5)))) as server:
        scores = judge(server).score(images(2), FACTS)
    assert scores.values.tolist() == [7, 2.5]
    assert scores.parts["questions"].tolist() == [1, 1]
    asked = server.requests[0]
    assert (asked["model"], asked["temperature"]) == ("m", 0)
    assert "a red apple" in question(asked)
    assert "from 0 (worst) to 10 (best)" in question(asked)
    assert "two cats" in question(server.requests[1])
    assert asked["response_format"]["json_schema"]["schema"]["properties"]["score"]["maximum"] == 10


def test_picture_is_sent_without_loss():
    with running(Fake(*says(verdict(1)))) as server:
        judge(server).score(images(1), {"prompts": "x"})
    url = server.requests[0]["messages"][0]["content"][0]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    data = url.partition(",")[2]
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert torch.equal(as_image_batch([from_png(data)]), (images(1) * 255).round() / 255)


def test_answer_without_a_number_is_asked_for_once_more():
    with running(Fake(*says("I cannot say.", verdict(4)))) as server:
        scores = judge(server).score(images(1), {"prompts": "x"})
    assert scores.values.tolist() == [4]
    assert scores.parts["questions"].tolist() == [2]
    again = server.requests[1]["messages"]
    assert [m["role"] for m in again] == ["user", "assistant", "user"]
    assert again[1]["content"] == "I cannot say."


@pytest.mark.parametrize(
    "nonsense", ["Sorry.", verdict(11), verdict(None), '{"score": "high"}', "{broken", ""]
)
def test_second_answer_without_a_number_makes_the_sample_invalid_and_not_zero(nonsense):
    with running(Fake(*says(nonsense, nonsense, verdict(3)))) as server:
        scores = judge(server).score(images(2), FACTS)
    assert scores.valid.tolist() == [False, True]
    assert scores.values.tolist() == [-torch.inf, 3]
    assert "no score in" in scores.first_reason


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 7, "explanation": "x"}', 7),
        ('```json\n{"explanation": "a {b} c", "score": 7}\n```', None),  # braces within are not followed
        ('Here it is: {"score": "7.5"} as asked', 7.5),
        ("Score: 8", 8),
        ("**Score**: 8/10", 8),
        ("The score is 6.5.", 6.5),
        ("score: 3 for colour, score: 5 for form", None),
        ("I give it 7", None),
        ('{"score": true}', None),
        ('{"score": NaN}', None),
        ("underscore: 5", None),
    ],
)
def test_number_is_found_or_there_is_none(text, score):
    if score is None and "```" in text:
        score = 7  # the loose form still finds it
    assert find_score(text)[0] == score


def test_equal_pictures_with_equal_prompts_are_asked_about_once():
    with running(Fake(*says(verdict(1), verdict(2)))) as server:
        batch = images(2)[[0, 1, 0, 0]]
        scores = judge(server).score(batch, {"prompts": "x"})
    assert scores.values.tolist() == [1, 2, 1, 1]
    assert len(server.requests) == 2


def test_many_workers_keep_answers_with_their_samples():
    def answer(request):
        return says(verdict(float(question(request).split("number ")[1].split()[0])))[0]

    with running(Fake(answer)) as server:
        prompts = [f"number {i} ." for i in range(8)]
        scores = judge(server, workers=8).score(images(8), {"prompts": prompts})
    assert scores.values.tolist() == list(range(8))


def test_rubric_and_scale_of_ones_own(tmp_path):
    (tmp_path / "rubric.txt").write_text("Is it red?")
    with running(Fake(*says(verdict(0.5)))) as server:
        reward = judge(server, rubric=str(tmp_path / "rubric.txt"), low=0.0, high=1.0)
        assert reward.score(images(1)).values.tolist() == [0.5]
        assert not reward.spec.needs_prompt
        assert reward.spec.range == (0, 1)
    assert question(server.requests[0]).startswith("Is it red?")


def test_verdicts_are_written_with_their_explanations(tmp_path):
    with running(Fake(*says(verdict(1, "too blue"), verdict(9, "fine")))) as server:
        judge(server, answers=str(tmp_path / "answers.jsonl")).score(images(2), FACTS)
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [(line["score"], line["explanation"]) for line in lines] == [(1, "too blue"), (9, "fine")]


def test_server_that_cannot_force_a_form_is_asked_plainly():
    with running(Fake(*says("score: 5"))) as server:
        assert judge(server, structured=False).score(images(1), {"prompts": "x"}).values.tolist() == [5]
    assert "response_format" not in server.requests[0]


def test_token_is_sent_and_kept_out_of_the_name(monkeypatch):
    monkeypatch.setenv("JUDGE_TOKEN", "s3cret")
    with running(Fake(*says(verdict(1)))) as server:
        reward = judge(server, token_env="JUDGE_TOKEN")
        reward.score(images(1), {"prompts": "x"})
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in reward.name + repr(reward.leaf.function)


def test_trouble_of_the_server(monkeypatch):
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.01)
    with running(Fake((503, {}), *says(verdict(6)))) as server:
        assert judge(server).score(images(1), {"prompts": "x"}).values.tolist() == [6]
    with pytest.raises(RewardError, match="is away"):
        judge(server, total=0.05).score(images(1), {"prompts": "x"})
    for answer, said in (
        ((404, {"error": {"message": "no such model"}}), "status 404: no such model"),
        ((200, {"scores": [1]}), "does the url end in /v1"),
    ):
        with running(Fake(answer)) as server, pytest.raises(RewardError, match=said):
            judge(server).score(images(1), {"prompts": "x"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "localhost"}, "url='localhost'"),
        ({"rubric": "/no/file"}, "rubric='/no/file' is no file"),
        ({"low": 5.0, "high": 5.0}, "low must be below"),
        ({"workers": 0}, "workers is 0; give a whole number from 1"),
        ({"answers": "/no/folder/x.jsonl"}, "its folder does not exist"),
    ],
)
def test_bad_setting_is_said_at_the_start(options, said):
    with pytest.raises(ConfigError, match=said):
        as_reward({"name": "vlm-judge", "url": "http://127.0.0.1:1/v1", "model": "m", **options})


def test_sample_without_a_prompt_is_refused():
    with pytest.raises(ConfigError, match="compares images with a text"):
        as_reward({"name": "vlm-judge", "url": "http://127.0.0.1:1/v1", "model": "m"}).score(images(1))
