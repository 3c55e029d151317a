"""Rows with and without memory in one population: each moves on by what it remembers itself."""

import pytest
import torch

from itscale import ODE, SDE, grids
from itscale.engine import Rows, Worker
from itscale.engine.messages import Place
from itscale.noise import Address, Noise
from itscale.process import ContinuousProcess
from itscale.solvers import SOLVERS, get_solver
from tests.oracles import mixture_2d

REMEMBERING = [name for name, solver in SOLVERS.items() if solver().history]


def place(first, count):
    zero = torch.zeros(count, dtype=torch.int64)
    return Place(Address(zero, zero + 1, torch.arange(first, first + count), zero), zero)


def joined(places):
    def together(name):
        return torch.cat([getattr(at.address, name) for at in places])

    address = Address(*(together(name) for name in ("group", "move", "slot", "draw")))
    return Place(address, torch.cat([at.group for at in places]))


@pytest.mark.parametrize("name", REMEMBERING)
def test_each_row_moves_by_its_own_memory(name):
    process = ContinuousProcess.of(mixture_2d(), SDE() if SOLVERS[name]().is_stochastic else ODE())
    times = grids.uniform(process.interpolant, 7, 0.0)
    kernel = get_solver(name).build(process, times)
    worker = Worker(process, kernel, times, Noise(3), None, None, [None], torch.float64, microbatch=4)
    generator = torch.Generator().manual_seed(0)

    def run(first, count, start, moves):
        at = place(first, count)
        rows = Rows(torch.randn(count, 2, dtype=torch.float64, generator=generator))
        for level in range(start, start + moves):
            rows, *_ = worker.propose(worker.look(rows, level, at)[0], level, at)
        return worker.look(rows, start + moves, at)[0], at

    # fresh at level 0, moved twice, moved three times, and one that jumped to level 3
    parts = [run(0, 2, 0, 0), run(2, 3, 0, 2), run(5, 3, 0, 3), run(8, 2, 3, 0)]
    levels = [0, 2, 3, 3]
    rows = Rows.join([rows for rows, _ in parts])
    at = joined([at for _, at in parts])
    level = torch.tensor(levels).repeat_interleave(torch.tensor([len(rows) for rows, _ in parts]))
    order = torch.tensor([9, 0, 5, 2, 3, 8, 1, 6, 4, 7])
    moved, *_ = worker.propose(
        rows.take(order), level[order], Place(at.address[order], at.group[order]), children=1
    )
    back = moved.take(order.argsort())
    offset = 0
    for (alone, here), k in zip(parts, levels, strict=True):
        expected, *_ = worker.propose(alone, k, here)
        mine = slice(offset, offset + len(alone))
        torch.testing.assert_close(back.x[mine], expected.x, rtol=1e-12, atol=1e-12)
        assert (back.depths[mine] == expected.depths).all()
        for j, tensor in enumerate(expected.history):
            torch.testing.assert_close(back.history[j][mine], tensor, rtol=1e-12, atol=1e-12)
        offset += len(alone)


def test_children_inherit_the_memory_of_their_parent():
    process = ContinuousProcess.of(mixture_2d(), SDE())
    times = grids.uniform(process.interpolant, 7, 0.0)
    kernel = get_solver("2m-sde").build(process, times)
    worker = Worker(process, kernel, times, Noise(3), None, None, [None], torch.float64, microbatch=4)
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    at = place(0, 3)
    old, *_ = worker.propose(worker.look(Rows(x), 0, at)[0], 0, at)
    old, _ = worker.look(old, 1, at)
    new, _ = worker.look(Rows(old.x), 1, at)  # as far, and without a past
    zero = torch.zeros(12, dtype=torch.int64)
    slot, draw = torch.arange(6).repeat_interleave(2), torch.arange(2).repeat(6)
    both, *_ = worker.propose(
        Rows.join([old, new]), 1, Place(Address(zero, zero, slot, draw), zero), children=2
    )
    assert both.depth is None  # all have just passed level 1
    for first, rows in ((0, old), (6, new)):
        mine = slice(first, first + 6)
        address = Address(zero[mine], zero[mine], slot[mine], draw[mine])
        alone, *_ = worker.propose(rows, 1, Place(address, zero[mine]), children=2)
        torch.testing.assert_close(both.x[mine], alone.x, rtol=0, atol=0)
