"""What crosses between processes arrives as it was: types, bits, views, networks by name."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from itscale.engine import Rows
from itscale.noise import Address, Noise
from itscale.pools import wire
from itscale.pools.snapshots import read_rows, write_rows


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8],
    ids=str,
)
def test_tensors_keep_type_and_bits(dtype):
    values = torch.tensor([[0.0, 1.0, -3.5], [float("inf"), 2.0, 7.0]])
    if not dtype.is_floating_point:
        values = values.nan_to_num(posinf=9.0).abs()
    tensor = values.to(dtype)
    for back in (wire.loads(wire.dumps(tensor)), wire.loads_apart(wire.dumps_apart(tensor))):
        assert back.dtype == dtype
        assert torch.equal(back, tensor)
        back += back  # not a view of memory that others share


def test_views_travel_without_what_they_are_views_of():
    big = torch.zeros(1000, 1000)
    assert len(wire.dumps(big[3, :5])) < 1000
    assert torch.equal(wire.loads(wire.dumps(big.mT[:2])), big.mT[:2])


def test_shared_memory_is_copied_before_it_is_written_to():
    parts = wire.dumps_apart(torch.arange(4.0))
    for part in parts[1:]:
        part.flags.writeable = False
    tensor = wire.loads_apart(parts)
    tensor[0] = 7.0
    assert torch.equal(wire.loads_apart(parts), torch.arange(4.0))


def test_what_has_a_name_goes_by_name():
    network = torch.nn.Linear(300, 300)
    for data in (
        wire.dumps_any({"a": network, "b": 3}, lambda value: "net" if value is network else None),
        wire.dumps({"a": network, "b": 3}, {torch.nn.Linear: lambda value: "net"}),
        wire.dumps({"a": network, "b": lambda: 3}, {torch.nn.Linear: lambda value: "net"}),
    ):
        assert len(data) < 1000
        back = wire.loads(data, {"net": network}.__getitem__)
        assert back["a"] is network


def test_what_the_main_program_has_defined_is_written_out():
    """By name alone it could not be found: the other side runs another main program."""
    there = {"__name__": "__main__"}
    exec("class Twice:\n    def __call__(self, x):\n        return 2 * x", there)
    main = sys.modules["__main__"]
    main.Twice = there["Twice"]
    try:
        data = wire.dumps(main.Twice())
    finally:
        del main.Twice
    assert wire.loads(data)(21) == 42


def test_tensors_with_a_gradient_keep_it():
    weight = torch.ones(3, requires_grad=True)
    assert wire.loads(wire.dumps(weight)).requires_grad


@dataclass(frozen=True)
class Message:
    function: object


def test_functions_of_notebooks_travel():
    scale = 3
    back = wire.loads(wire.dumps(Message(lambda x: scale * x)))
    assert back.function(2) == 6


def rows() -> Rows:
    zero = torch.zeros(5, dtype=torch.int64)
    x = Noise(1).normal(0, Address(zero, zero, torch.arange(5), zero), (3,), torch.float32)
    depth = torch.tensor([1, 2, 2, 0, 1])
    return Rows(x, raw=x.bfloat16(), history=(x + 1, x + 2), memo=x.double(), depth=depth)


def test_snapshots_bring_rows_back(tmp_path):
    mine = rows()
    path = tmp_path / "at-1" / "shard-0.safetensors"
    write_rows(path, {(3, 0): mine, (4, 1): mine, (5, 0): Rows(mine.x)}, {"network_calls": 7})
    store, counters = read_rows(path, "cpu")
    assert counters == {"network_calls": 7}
    assert list(store) == [(3, 0), (4, 1), (5, 0)]
    assert store[3, 0] is store[4, 1]
    for field in ("x", "raw", "memo", "depth"):
        assert torch.equal(getattr(store[3, 0], field), getattr(mine, field)), field
    assert all(torch.equal(a, b) for a, b in zip(store[3, 0].history, mine.history, strict=True))
    assert store[5, 0].raw is None


def test_a_snapshot_names_rows_and_nothing_else(tmp_path):
    path = tmp_path / "shard-0.safetensors"
    write_rows(path, {(1, 0): rows()}, {})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"itscale.engine.rows:Rows", b"itscale.noise:Noise     "))
    with pytest.raises((ValueError, AttributeError), match=r"no kind of rows|Noise"):
        read_rows(path, "cpu")


def test_pieces_of_a_population_keep_what_one_of_them_knows():
    """A shard in which no row came out unchanged has no outputs; the others keep theirs."""
    x = torch.arange(6.0).reshape(6, 1)
    known = torch.tensor([True, False, True])
    with_outputs = Rows(x[:3], raw=x[:3] * 2, known=known)
    whole = Rows.reunite([with_outputs, Rows(x[3:])])
    assert whole.known is not None
    assert whole.known.tolist() == [True, False, True, False, False, False]
    assert torch.equal(whole.raw[:3], x[:3] * 2)
    joined = Rows.join([with_outputs, Rows(x[3:])])
    assert joined.raw is None


def test_arrays_of_messages_are_not_numpy_pickles_of_another_version():
    """Tensors go as plain arrays: numbers in native order, nothing that only one numpy can read."""
    array, name = wire.as_array(torch.arange(3))
    assert isinstance(array, np.ndarray)
    assert name == "int64"
