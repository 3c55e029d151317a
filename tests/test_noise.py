"""Addressed random numbers: known answers, addressing, and the laws of uniforms and normals."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from itscale import noise
from itscale.errors import ConfigError
from itscale.noise import Address, Noise, Purpose, philox

# Random123 distribution, kat_vectors: counter, key, words.
KNOWN = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
Z = 4.89  # two-sided level 1e-6 of a normal statistic


def place(rows: int, **fields: int) -> Address:
    """Rows that differ by slot alone."""
    fixed = {name: torch.full((rows,), fields.get(name, 0)) for name in ("group", "move", "draw")}
    return Address(slot=torch.arange(rows), **fixed)


def mixed_place(rows: int = 600) -> Address:
    """Rows of many groups, moves and children in no order."""
    generator = torch.Generator().manual_seed(5)
    fields = (torch.randint(0, high, (rows,), generator=generator) for high in (2**40, 2**31, 2**31, 2**24))
    return Address(*fields)


def torch_words(counter, key):
    return noise._philox_torch(counter, key)


@pytest.mark.parametrize("back_end", [philox, torch_words], ids=["numpy", "torch"])
@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_words(back_end, counter, key, words):
    found = back_end(
        tuple(torch.tensor([c]) for c in counter), tuple(torch.tensor([k], dtype=torch.int64) for k in key)
    )
    assert tuple(int(w) for w in found) == words


def test_both_back_ends_agree_on_random_counters():
    generator = torch.Generator().manual_seed(0)
    six = [torch.randint(0, 2**32, (4096,), generator=generator) for _ in range(6)]
    for a, b in zip(philox(tuple(six[:4]), tuple(six[4:])), torch_words(six[:4], six[4:]), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("event", [(1,), (2,), (3, 5), (1, 9, 9)])
def test_numbers_depend_neither_on_batch_nor_order_nor_chunks(event, dtype, monkeypatch):
    at, source = mixed_place(), Noise(7)
    together = source.normal(Purpose.MOVE, at, event, dtype)
    order = torch.randperm(len(at), generator=torch.Generator().manual_seed(1))
    assert torch.equal(source.normal(Purpose.MOVE, at[order], event, dtype), together[order])
    assert torch.equal(source.normal(Purpose.MOVE, at[slice(13, 14)], event, dtype), together[13:14])
    uniform = source.uniform(Purpose.RESAMPLE, at, 5)
    monkeypatch.setattr(noise, "_PIECE", 11)
    assert torch.equal(source.normal(Purpose.MOVE, at, event, dtype), together)
    assert torch.equal(source.uniform(Purpose.RESAMPLE, at, 5), uniform)


def test_a_new_source_of_the_same_seed_resumes_the_same_numbers():
    first = Noise(3).normal(Purpose.MOVE, place(8, move=41), (4,), torch.float32)
    assert torch.equal(Noise(3).normal(Purpose.MOVE, place(8, move=41), (4,), torch.float32), first)


def test_every_part_of_an_address_changes_the_numbers():
    at, source = mixed_place(64), Noise(3)
    base = source.words(Purpose.MOVE, at, 2)
    changed = [
        Noise(4).words(Purpose.MOVE, at, 2),
        Noise(3 + 2**32).words(Purpose.MOVE, at, 2),
        Noise(3, epoch=1).words(Purpose.MOVE, at, 2),
        source.words(Purpose.SELECT, at, 2),
        *(
            source.words(Purpose.MOVE, replace(at, **{name: getattr(at, name) ^ 1}), 2)
            for name in ("group", "move", "slot", "draw")
        ),
        source.words(Purpose.MOVE, replace(at, group=at.group ^ (1 << 35)), 2),
    ]
    for words in changed:
        # 512 words of 32 bits: one accidental equality has probability 1e-7
        assert not (words == base).any()


def test_seeds_are_taken_modulo_two_to_the_64():
    at = place(4)
    assert torch.equal(Noise(-1).words(0, at, 1), Noise(2**64 - 1).words(0, at, 1))


def test_purposes_are_distinct_and_fit_their_counter_word():
    values = [int(p) for p in Purpose]
    assert len(set(values)) == len(values)
    assert max(values) < 256
    with pytest.raises(ConfigError, match="purpose"):
        Noise(0).words(256, place(1), 1)


def test_normals_have_normal_moments_and_law():
    z = Noise(11).normal(Purpose.MOVE, place(2000), (500,), torch.float64).flatten()
    n = len(z)
    # standard errors of the first four moments of a standard normal: 1, 2, 15, 96 over n
    for power, truth, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - truth) <= Z * math.sqrt(variance / n)
    assert stats.kstest(z[:200_000].numpy(), "norm").pvalue > 1e-6
    assert 4.5 < float(z.abs().max()) < 6.8  # E max of 1e6 is 4.9; 32-bit uniforms end at 6.76


def test_normals_are_box_muller_on_the_middles_of_cells():
    at, source = mixed_place(5), Noise(7)
    u = (source.words(Purpose.MOVE, at, 3).double() + 0.5) / 2**32
    radius, angle = (-2 * u[:, :6].log()).sqrt(), 2 * math.pi * u[:, 6:]
    expected = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :11]
    # half a cell is 1e-10; rounding of an angle of up to 2 pi moves a zero of the cosine by 1e-15
    torch.testing.assert_close(
        source.normal(Purpose.MOVE, at, (11,), torch.float64), expected, rtol=1e-13, atol=1e-14
    )


def test_uniforms_lie_in_the_half_open_interval_and_are_uniform():
    u = Noise(12).uniform(Purpose.RESAMPLE, place(4000), 100).flatten()
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-6


@pytest.mark.parametrize("word", [0, 0xFFFFFFFF])
def test_extreme_words_give_finite_normals_and_uniforms_below_one(word, monkeypatch):
    def constant(counter, key):
        shape = torch.broadcast_shapes(*(c.shape for c in counter))
        return tuple(torch.full(shape, word) for _ in range(4))

    monkeypatch.setattr(noise, "philox", constant)
    assert Noise(0).normal(Purpose.MOVE, place(2), (4,), torch.float64).isfinite().all()
    u = Noise(0).uniform(Purpose.RESAMPLE, place(2), 4)
    assert ((u >= 0) & (u < 1)).all()


def neighbours() -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Pairs of draws that a fault in addressing would correlate."""
    source, at = Noise(9), place(400)
    event = (250,)

    def draw(purpose=Purpose.MOVE, at=at, source=source):
        return source.normal(purpose, at, event, torch.float64)

    base = draw()
    return [
        ("slot", base[:-1], base[1:]),
        ("move", base, draw(at=place(400, move=1))),
        ("group", base, draw(at=place(400, group=1))),
        ("draw", base, draw(at=place(400, draw=1))),
        ("purpose", base, draw(purpose=Purpose.INITIAL)),
        ("seed", base, draw(source=Noise(10))),
        ("coordinate", base[:, :-1], base[:, 1:]),
        ("pair", base[:, :125], base[:, 125:]),
    ]


@pytest.mark.parametrize(("name", "a", "b"), neighbours(), ids=lambda v: v if isinstance(v, str) else "")
def test_neighbouring_addresses_are_uncorrelated(name, a, b):
    # the mean of products of independent normals has standard error 1/sqrt(n); squares, 2/sqrt(n)
    n = a.numel()
    assert abs(float((a * b).mean())) <= Z / math.sqrt(n)
    assert abs(float(((a**2 - 1) * (b**2 - 1)).mean())) <= Z * 2 / math.sqrt(n)
