"""Direct connections to shards: who may speak, what crosses, what follows when one is cut or missing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

import numpy as np
import pytest
import torch

from itscale.methods import SMC
from itscale.pools import lines, wire
from itscale.pools.acts import Lost
from itscale.pools.lines import Answering, Cut, Lines
from itscale.pools.shard import StaleCall
from tests.pools.test_equal_bits import assert_same, local, run
from tests.pools.test_failures import flipped

KEY = b"k" * 32
METHOD = SMC(particles=9, ess_threshold=1.0)
SETTINGS: dict = {"steps": 3, "groups": 3, "condition": [0.0, 1.0, 2.0]}


def at_ease(shards):
    """Nothing is amiss."""


@pytest.fixture
def ends():
    """Two shards' ends that turn messages round, and the driver's end."""
    answering = [Answering("127.0.0.1", KEY, lambda message: message[::-1]) for _ in range(2)]
    driver = Lines.connect([end.address for end in answering], KEY)
    yield answering, driver
    driver.close()


@pytest.mark.parametrize("size", [0, 3, 100_000, 5_000_000])
def test_messages_of_any_length_are_answered_in_order(size, ends):
    messages = {1: b"first" + bytes(size), 0: b"second" + bytes(size)}
    for _ in range(3):
        found = ends[1].ask(messages, 10.0, at_ease)
        assert found == [message[::-1] for message in messages.values()]
    assert ends[1].ask({0: b"alone"}, 10.0, at_ease) == [b"enola"]


@pytest.mark.parametrize("key", [b"", b"j" * 32])
def test_nothing_is_read_from_one_who_has_no_key(key):
    heard = []
    end = Answering("127.0.0.1", KEY, lambda message: heard.append(message) or b"")
    with pytest.raises((AuthenticationError, OSError, EOFError)):
        Client(end.address, authkey=key).send_bytes(b"mine")
    with pytest.raises(OSError, match="AuthenticationError"):
        Lines.connect([end.address], key)
    with socket.create_connection(end.address) as bare:
        bare.sendall(b"\0\0\0\4mine")
        bare.settimeout(10)
        while bare.recv(1000):  # the challenge, and then the end
            pass
    assert heard == []


def test_one_who_says_nothing_keeps_nobody_from_a_line(ends):
    answering, _ = ends
    with socket.create_connection(answering[0].address):
        other = Lines.connect([answering[0].address], KEY)
        assert other.ask({0: b"ab"}, 10.0, at_ease) == [b"ba"]
        other.close()


def test_time_that_is_over_and_looks_meanwhile(monkeypatch):
    monkeypatch.setattr(lines, "LOOK_SECONDS", 0.05)
    go = threading.Event()
    slow = Answering("127.0.0.1", KEY, lambda message: bytes(go.wait(30)))
    quick = Answering("127.0.0.1", KEY, lambda message: message)
    driver = Lines.connect([slow.address, quick.address], KEY)
    looks = []
    with pytest.raises(TimeoutError):
        driver.ask({0: b"", 1: b""}, 0.5, lambda shards: looks.append(list(shards)))
    assert 3 <= len(looks) <= 10
    assert looks[-1] == [0]
    go.set()
    driver.close()


def test_a_line_that_is_cut_says_which():
    def end(message: bytes) -> bytes:
        raise EOFError  # as where the process ends

    whole, broken = (Answering("127.0.0.1", KEY, obey) for obey in (bytes, end))
    driver = Lines.connect([whole.address, broken.address], KEY)
    with pytest.raises(Cut) as cut:
        driver.ask({0: b"", 1: b""}, 10.0, at_ease)
    assert cut.value.shard == 1
    with pytest.raises(Cut):
        driver.ask({1: bytes(10**6)}, 10.0, at_ease)
    driver.close()


def test_nobody_to_connect_to_is_an_error_at_once():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            Lines.connect([bound.getsockname()], KEY)
    with pytest.raises(OSError, match="lets nobody listen"):
        Lines.connect([None], KEY)


def test_a_message_that_stays_half_way_is_given_up(monkeypatch):
    monkeypatch.setattr(lines, "STUCK_SECONDS", 1.0)
    heard = threading.Event()
    end = Answering("127.0.0.1", KEY, lambda message: bytes(heard.wait(30)))
    driver = Lines.connect([end.address], KEY)
    with pytest.raises(TimeoutError):
        driver.ask({0: b""}, 0.1, at_ease)  # from now on it reads nothing
    started = time.monotonic()
    with pytest.raises(Cut):
        driver.ask({0: bytes(50_000_000)}, 60.0, at_ease)
    assert time.monotonic() - started < 20
    heard.set()
    driver.close()


@pytest.mark.ray
@pytest.mark.shards(2)
def test_what_is_brief_goes_over_lines_and_rows_do_not(engine, monkeypatch):
    asked, submitted = [], []
    driver, log = engine.pool.crew.lines, engine.pool._log
    ask, submit = driver.ask, log._submit
    monkeypatch.setattr(driver, "ask", lambda *args: asked.append(args) or ask(*args))
    monkeypatch.setattr(log, "_submit", lambda act: submitted.append(act.name) or submit(act))
    p = engine.look(engine.propose(engine.look(engine.start(6))))
    engine.pool.flush()
    assert len(asked) == 1
    assert submitted == []
    turned = p.rows.take(torch.arange(11, -1, -1))  # every row stays in its shard
    assert len(asked) == 2
    assert submitted == []
    engine.pool.home(engine.pool._arrange(turned, np.arange(12), flipped(turned.layout)))
    assert len(asked) == 2
    assert submitted == ["move", "home"]


@pytest.mark.ray
@pytest.mark.shards(2)
def test_messages_out_of_turn_are_refused_and_change_nothing(engine, out_of_turn):
    p, before, stamp = out_of_turn
    crew, log = engine.pool.crew, engine.pool._log
    message = wire.dumps((*stamp, log.acts[-1].answering[0].commands, ()))
    answer = wire.loads(crew.lines.ask({0: message}, 10.0, at_ease)[0])
    assert isinstance(answer, StaleCall)
    assert "nothing was changed" in str(answer)
    assert torch.equal(engine.pool.home(p.rows).x, before)
    log._numbers[0] += 1  # and of one that the driver sends, its error
    with pytest.raises(StaleCall):
        engine.pool.call("denoise", p.rows, 0)


@pytest.mark.ray
@pytest.mark.shards(2)
@pytest.mark.parametrize("why", ["nobody answers", "encrypted"])
def test_without_lines_all_goes_through_ray_to_the_same_bits(why, pool, monkeypatch):
    def refused(addresses, key):
        raise ConnectionRefusedError("no way through")

    if why == "encrypted":
        monkeypatch.setenv("RAY_USE_TLS", "1")
    else:
        monkeypatch.setattr(Lines, "connect", refused)
    result = run(METHOD, pool(), **SETTINGS)
    assert_same(result, local(METHOD, **SETTINGS))
    told = {"nobody answers": "no way through", "encrypted": "not encrypted"}[why]
    assert any("no direct connections" in warning and told in warning for warning in result.warnings)
    monkeypatch.undo()
    assert not any("no direct connections" in warning for warning in run(METHOD, pool(), **SETTINGS).warnings)


@pytest.mark.ray
@pytest.mark.shards(2)
def test_a_shard_that_ray_has_lost_is_not_waited_for(engine):
    """A machine without power closes no connection; Ray hears of it long before the first deadline."""
    os.kill(engine.pool.crew.pids[1], signal.SIGKILL)
    log = engine.pool._log
    deadline = time.monotonic() + 30

    def look_until_it_is_known():
        while time.monotonic() < deadline:
            log._look([0, 1])
            time.sleep(0.2)

    with pytest.raises(Lost):
        look_until_it_is_known()
    assert set(log._probes) <= {0}


@pytest.mark.ray
@pytest.mark.shards(2)
def test_a_shard_at_work_gives_no_sign_of_life_until_it_is_done(engine):
    """So that one that hangs in a network is told from one that lives."""
    assert engine.pool.crew.answers(10.0) == [True, True]
    p = engine.look(engine.start(6))
    busy = threading.Thread(target=lambda: engine.pool.call("apply", rest, p.rows))
    busy.start()
    time.sleep(1.0)
    assert engine.pool.crew.answers(0.5) == [False, False]
    busy.join()
    assert engine.pool.crew.answers(10.0) == [True, True]


def rest(process, rows):
    time.sleep(4.0)
    return rows
