"""The reward behind Ray Serve answers as the server of ``itscale serve-reward`` does."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch

from itscale.errors import ConfigError
from itscale.remote import payload
from itscale.remote.ray_serve import RewardDeployment
from itscale.remote.server import RewardServer


def ask(deployment, method, path, body=b"", **headers):
    return asyncio.run(deployment.respond(method, path, headers, body))


def test_same_answers_as_the_server():
    deployment = RewardDeployment("brightness")
    with RewardServer(deployment.reward) as server:
        request = payload.encode_samples(torch.rand(3, 3, 4, 4), "image", "npy")
        assert ask(deployment, "POST", "/score", json.dumps(request).encode()) == (
            200,
            server.answer(request),
        )
    status, spec = ask(deployment, "GET", "/spec")
    assert (status, spec["name"]) == (200, "brightness")
    assert ask(deployment, "POST", "/score", b"[]")[0] == 400
    assert ask(deployment, "POST", "/elsewhere")[0] == 404


def test_token_is_asked_for(monkeypatch):
    monkeypatch.setenv("REWARD_TOKEN", "secret")
    deployment = RewardDeployment("brightness", token_env="REWARD_TOKEN")
    assert ask(deployment, "GET", "/spec")[0] == 401
    assert ask(deployment, "GET", "/spec", authorization="Bearer secret")[0] == 200
    monkeypatch.setenv("REWARD_TOKEN", "")
    with pytest.raises(ConfigError, match="REWARD_TOKEN"):
        RewardDeployment("brightness", token_env="REWARD_TOKEN")
