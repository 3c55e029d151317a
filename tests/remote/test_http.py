"""A reward behind HTTP: a server of ours, and servers that are slow, gone, or talk nonsense."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import pickle
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest
import torch

from itscale.errors import ConfigError, RewardError, RewardShapeError
from itscale.remote import http_client
from itscale.remote.payload import from_npy
from itscale.scoring import as_reward, check_reward, reward
from tests.remote.servers import SPEC, Fake, running, served
from tests.tiny_scorers import images

GOOD = (200, {"scores": [0.25, 0.75]})


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(http_client, "LONGEST_WAIT", 0.05)


def client(url, **options):
    return as_reward({"name": "http", "url": url, **options})


def test_scores_are_those_of_the_reward_behind():
    with served("0.5 * brightness - ink") as server:
        there, here = as_reward(server.url), as_reward("0.5 * brightness - ink")
        batch = images()
        rounded = (batch * 255).round() / 255
        torch.testing.assert_close(there.score(batch).values, here.score(rounded).values)
        exact = client(server.url, encoding="npy")
        assert torch.equal(exact.score(batch).values, here.score(batch).values)
        assert [r.name for r in check_reward(there) if not r.passed] == []
        assert set(there.score(batch).parts) == {"brightness", "ink"}
        assert "0.5 * brightness - ink" in there.name


def test_facts_of_the_reward_come_from_the_server():
    with served("brightness") as server:
        spec = as_reward(server.url).spec
        assert (spec.modality, spec.range, spec.typical) == ("image", (0, 1), (0.05, 0.23))
        assert not spec.differentiable
    with served("jpeg-compressibility") as server:
        there = as_reward(server.url)
        assert there.spec.needs_rgb
        assert there.score(images()[:, :1]).valid.all()


def test_texts_prompts_and_reasons_make_the_way():
    @reward(modality="text")
    def lengths(texts, prompts, meta=None, t=0.0):
        if any(text == "bad" for text in texts):
            raise ValueError("a bad text")
        return [
            len(a) + 10 * len(b) + 100 * m["k"] + 1000 * t
            for a, b, m in zip(texts, prompts, meta, strict=True)
        ]

    facts = {"prompts": ["p", "pp"], "meta": [{"k": 1}, {"k": torch.tensor(2)}], "t": torch.tensor(3.0)}
    with served(lengths) as server:
        there = as_reward(server.url)
        assert there.spec.needs_prompt
        assert there.score(["abc", "d"], facts).values.tolist() == [3113, 3221]
        scores = there.score(["abc", "bad"], facts)
        assert scores.valid.tolist() == [True, False]
        assert scores.first_reason == "ValueError: a bad text"


def test_minus_infinity_is_a_score_and_nan_is_none():
    @reward(modality="vector")
    def odd(samples):
        return torch.where(samples[:, 0] > 0, -torch.inf, torch.nan)

    with served(odd) as server:
        scores = as_reward(server.url).score(torch.tensor([[1.0], [-1.0]]))
    assert scores.valid.tolist() == [True, False]
    assert scores.values.tolist() == [-torch.inf, -torch.inf]


def test_server_that_fails_for_every_sample_is_an_error_with_its_reason():
    @reward(modality="image")
    def broken(images):
        raise OSError("disk on fire")

    with served(broken) as server, pytest.raises(RewardError, match=r"status 500: .*disk on fire"):
        as_reward(server.url).score(images())


def test_requests_that_cannot_be_read_are_refused():
    def ask(server, body, path="/score", headers=None):
        request = urllib.request.Request(server.url + path, data=body, headers=headers or {})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request) as answer:
                return answer.status, json.loads(answer.read())["scores"]
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]

    with served("brightness") as server:
        for body, said in (
            (b"nonsense", "Expecting value"),
            (b"[1]", "a request is a JSON object"),
            (b"{}", "needs 'images'"),
            (b'{"images": []}', "at least one"),
            (b'{"images": ["not base64!"]}', "no PNG in base64"),
            (b'{"images": ["aGVsbG8="]}', "no PNG in base64"),
            (b'{"images": ["aGVsbG8="], "encoding": "npy"}', "no array in npy format"),
        ):
            status, text = ask(server, body)
            assert status == 400
            assert said in text
        assert ask(server, b"{}", "/other")[0] == 404
        assert ask(server, None, "/other")[0] == 404
        body = json.dumps({"images": []}).encode()
        assert ask(server, body, headers={"Content-Length": "999999999999"})[0] == 413
        assert as_reward(server.url).score(images()).valid.all()  # none of it harmed the server


def test_pickles_are_not_read():
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="no array in npy format"):
        from_npy(base64.b64encode(file.getvalue()).decode())


def test_token_is_asked_for_and_never_shown(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    with served("brightness", token_env="MY_TOKEN") as server:
        allowed = client(server.url, token_env="MY_TOKEN")
        assert allowed.score(images()).valid.all()
        assert "s3cret" not in repr(vars(allowed.leaf.function)) + allowed.name
        with pytest.raises(RewardError, match="status 401: the bearer token is missing or wrong"):
            as_reward(server.url)
        monkeypatch.setenv("MY_TOKEN", "other")
        with pytest.raises(RewardError, match="status 401"):
            allowed.score(images())
    with pytest.raises(ConfigError, match="'NO_TOKEN' is empty"):
        client("http://127.0.0.1:1", token_env="NO_TOKEN")


@pytest.mark.parametrize("trouble", ["drop", (429, {}), (502, {}), (503, b"busy"), (504, {})])
def test_trouble_that_passes_is_waited_for(trouble):
    with running(Fake(trouble, trouble, GOOD)) as server:
        assert as_reward(server.url).score(images(2)).values.tolist() == [0.25, 0.75]
        assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "said"), [(400, "bad prompt"), (404, "bad prompt"), (500, "bad prompt")])
def test_refusal_is_final(status, said):
    with running(Fake((status, {"error": said}))) as server:
        with pytest.raises(RewardError, match=f"status {status}: {said}"):
            as_reward(server.url).score(images(2))
        assert len(server.requests) == 1


def test_redirect_is_not_followed():
    with running(Fake(GOOD)) as other, running(Fake((302, other.url.encode()))) as server:
        with pytest.raises(RewardError, match="status 302"):
            as_reward(server.url).score(images(2))
        assert other.requests == []


def test_server_that_dies_is_waited_for_and_then_an_error():
    with running(Fake(GOOD)) as server:
        there = client(server.url, total=0.3)
        assert there.score(images(2)).valid.all()
    started = time.monotonic()
    with pytest.raises(
        RewardError, match=r"/score is away for .*start it again and resume, or set on_unavailable"
    ):
        there.score(images(2))
    assert time.monotonic() - started < 5


def test_waiting_goes_on_until_the_server_is_back():
    with running(Fake(GOOD)) as server:
        port = server.server_address[1]
        there = client(server.url, total=0.01, on_unavailable="wait")
    back: list = []

    def restart():
        time.sleep(0.3)
        server = Fake(GOOD, port=port)
        back.append(server)
        server.serve_forever(poll_interval=0.01)

    threading.Thread(target=restart, daemon=True).start()
    try:
        assert there.score(images(2)).values.tolist() == [0.25, 0.75]
    finally:
        for server in back:
            server.shutdown()
            server.server_close()


def test_slow_server_is_given_up():
    def sleep(body):
        time.sleep(2)
        return GOOD

    with running(Fake(sleep)) as server:
        there = client(server.url, timeout=0.1, total=0.2)
        with pytest.raises(RewardError, match=r"is away for .*timed out"):
            there.score(images(2))


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (b"<html>", RewardError, "answers no JSON: b'<html>'"),
        ([1, 2], RewardError, "answered without 'scores'"),
        ({"score": [1, 2]}, RewardError, "answered without 'scores'"),
        ({"scores": [1, 2, 3]}, RewardShapeError, "answered 3 scores for 2 samples"),
        ({"scores": 1}, RewardShapeError, "answered 1 scores for 2 samples"),
        ({"scores": ["good", "bad"]}, RewardError, "scores that are no numbers"),
        ({"scores": [[1, 2], [3, 4]]}, RewardError, "scores that are no numbers"),
        ({"scores": [1, 2], "valid": [True]}, RewardShapeError, "answered 1 valid for 2"),
        ({"scores": [1, 2], "parts": {"a": [1]}}, RewardShapeError, "answered 1 a for 2"),
    ],
)
def test_nonsense_is_an_error_and_not_a_score(answer, kind, said):
    with running(Fake((200, answer))) as server, pytest.raises(kind, match=said):
        as_reward(server.url).score(images(2))


def test_missing_score_is_invalid():
    with running(Fake((200, {"scores": [None, 1.0], "reasons": ["no face", ""]}))) as server:
        scores = as_reward(server.url).score(images(2))
    assert scores.valid.tolist() == [False, True]
    assert scores.first_reason == "no face"


def test_server_without_facts_is_refused():
    for spec in ({}, [], {"modality": "picture"}):
        with (
            running(Fake(GOOD, spec=spec)) as server,
            pytest.raises(RewardError, match="no facts of a reward"),
        ):
            as_reward(server.url)


def test_only_what_is_asked_for_is_sent():
    with running(Fake(GOOD, spec={**SPEC, "wanted": ["prompts"]})) as server:
        as_reward(server.url).score(images(2), {"prompts": ["a", "b"], "t": 0.5, "conditions": [1, 2]})
        assert set(server.requests[0]) == {"images", "encoding", "prompts"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "localhost:80"}, "url='localhost:80'; give http://host:port"),
        ({"url": "http://me:pw@host"}, "the url holds a password"),
        ({"url": "http://127.0.0.1:1", "encoding": "jpeg"}, "encoding is 'jpeg'"),
        ({"url": "http://127.0.0.1:1", "timeout": 0}, "timeout is 0; give seconds above 0"),
        ({"url": "http://127.0.0.1:1", "on_unavailable": "skip"}, "on_unavailable='skip'"),
    ],
)
def test_bad_setting_is_said_before_anything_is_asked(options, said):
    with pytest.raises(ConfigError, match=said):
        as_reward({"name": "http", **options})


def test_unknown_host_is_not_waited_for(monkeypatch):
    def unknown(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RewardError, match="names a host that nobody knows; check the url"):
        as_reward("http://no-such-host.invalid:8000")


def test_address_in_use_is_said():
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(ConfigError, match=r"cannot listen on .*give another --host or --port"),
            served("brightness", port=taken.getsockname()[1]),
        ):
            pass


def test_reward_travels_without_asking_again():
    with running(Fake(GOOD)) as server:
        data = pickle.dumps(as_reward(server.url))
    assert pickle.loads(data).spec.range == (0, 1)
