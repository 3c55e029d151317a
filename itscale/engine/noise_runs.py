"""What runs where the rows live: the noises of whole runs, the runs, and the way back through them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from itscale.ascent import Nesterov, Objective
from itscale.engine.messages import Place, Scored
from itscale.engine.rows import Rows
from itscale.noise import Purpose
from itscale.process import Evaluation
from itscale.solvers import Kernel, remembered, shares_of
from itscale.types import expand_over_event

if TYPE_CHECKING:
    from itscale.engine.worker import Worker


def normals_of(kernel: Kernel, steps: int) -> list[int]:
    """How many standard normals a row uses at each move; 0 at those without noise."""
    return [len(shares_of(kernel, k) or (1,)) if kernel.is_noisy(k) else 0 for k in range(steps)]


def draw(worker: Worker, at: Place, initial: Tensor | None) -> Rows:
    """Draw what a run would draw: the initial noise, then those of the moves, (rows, 1 + normals, *event)."""
    event = tuple(worker.process.model.event_shape)
    counts = normals_of(worker.kernel, len(worker.times) - 1)
    x = torch.empty(len(at), 1 + sum(counts), *event, dtype=worker.dtype, device=worker.device)
    for part in worker._chunks(len(at)):
        where = worker._address(at, part)
        if initial is None:
            x[part, 0] = worker.noise.normal(Purpose.INITIAL, where, event, worker.dtype)
        else:
            x[part, 0] = initial[part].to(device=worker.device, dtype=worker.dtype)
        first = 1
        for level, count in enumerate(counts):
            if not count:
                continue
            is_single = shares_of(worker.kernel, level) is None
            shape = event if is_single else (count, *event)
            z = worker.noise.normal(
                Purpose.MOVE, replace(where, move=where.move + 1 + level), shape, worker.dtype
            )
            x[part, first : first + count] = z[:, None] if is_single else z
            first += count
    return Rows(x)


@torch.no_grad()
def run(worker: Worker, noises: Rows, at: Place) -> tuple[Rows, Scored, Int64[Tensor, " rows"]]:
    """Run the sampler from its noises to samples, and score these; looks per row besides."""
    x = torch.empty(len(at), *noises.x.shape[2:], dtype=noises.x.dtype, device=noises.x.device)
    looks = torch.empty(len(at), dtype=torch.int64)
    for part in worker._chunks(len(at)):
        x[part], looks[part] = _sample(worker, noises.x[part], at.group[part])
    rows, scored = worker.score(Rows(x), len(worker.times) - 1, at, keep_samples=True)
    return rows, scored, looks


@torch.no_grad()
def run_and_return(
    worker: Worker, noises: Rows, at: Place, recompute: bool
) -> tuple[Rows, Rows, Scored, Int64[Tensor, " rows"], Int64[Tensor, " rows"]]:
    """Run the sampler, score, and differentiate the reward with respect to all noises.

    Args:
        recompute: evaluate every step but the last again on the way back, in place of keeping what is inside
            it: memory for one step in place of all.

    Returns:
        The noises with the gradient; samples; scores; looks per row; those made again on the way back.
    """
    x = torch.empty(len(at), *noises.x.shape[2:], dtype=noises.x.dtype, device=noises.x.device)
    values = torch.empty(len(at), dtype=torch.float64, device=x.device)
    looks, again = torch.empty(2, len(at), dtype=torch.int64)
    gradient, samples = torch.empty_like(noises.x), []
    assert worker.reward is not None
    last = len(worker.times) - 1
    for part in worker._chunks(len(at), worker._backward_chunk):
        with torch.enable_grad():
            z = noises.x[part].detach().requires_grad_()
            end, made = _sample(worker, z, at.group[part], recompute)
            decoded = worker.decode(end)
            reward = worker.reward.raw(decoded, worker._facts(last, at, part))
            looks[part] = made
            gradient[part] = torch.autograd.grad(reward.sum(), z)[0]
        again[part] = made - looks[part]  # the way back has counted on
        x[part], values[part] = end.detach(), reward.detach().double()
        samples.append(decoded.detach())
    rows = Rows(x, samples=torch.cat(samples))
    return noises.with_(gradient=gradient), rows, Scored.of(values, x), looks, again


def _sample(
    worker: Worker, z: Tensor, group: Tensor, recompute: bool = False
) -> tuple[Tensor, Int64[Tensor, " rows"]]:
    """Take one micro-batch from its noises to the end."""
    kernel, steps = worker.kernel, len(worker.times) - 1
    x = worker._begin(z[:, 0], group)
    memory: tuple[Tensor, ...] = ()
    looks = torch.zeros(len(z), dtype=torch.int64)

    def look(y: Tensor, to: int | float, among: Tensor | None = None, /) -> Evaluation:
        looks[slice(None) if among is None else among.cpu()] += 1
        # kernels go on to change their states in place, and the way back needs them as they were looked at
        y = y.clone() if y.requires_grad else y
        return worker._evaluate(y, to, group if among is None else group[among])

    def move(x: Tensor, noise: Tensor | None, level: int, *past: Tensor) -> tuple[Tensor, ...]:
        here = look(x, level)
        done = kernel(here, past, level, look, noise)
        return (done.x, *remembered(kernel, here, past, done))

    for level, noise in enumerate(_noises(worker, z)):
        if recompute and level < steps - 1:
            with set_checkpoint_early_stop(False):  # so that as much is computed as was planned
                inside = checkpoint(
                    move, x, noise, level, *memory, use_reentrant=False, preserve_rng_state=False
                )
        else:
            inside = move(x, noise, level, *memory)
        x, *rest = inside
        memory = tuple(rest)
    return x, looks


def _noises(worker: Worker, z: Tensor) -> Iterator[Tensor | None]:
    """The normals of every move, as its kernel takes them."""
    first = 1
    for level, count in enumerate(normals_of(worker.kernel, len(worker.times) - 1)):
        if not count:
            yield None
        elif shares_of(worker.kernel, level) is None:
            yield z[:, first]
        else:
            yield z[:, first : first + count]
        first += count


@torch.no_grad()
def ascend(worker: Worker, noises: Rows, optimiser: Nesterov, objective: Objective, turn: int) -> Rows:
    """Take one step along the gradient of the objective; the velocity stays with the rows."""
    assert noises.gradient is not None, "a gradient comes first"
    old = noises.history[0] if noises.history else torch.zeros_like(noises.x)
    x, velocity = torch.empty_like(noises.x), torch.empty_like(noises.x)
    for part in worker._chunks(len(noises), worker._backward_chunk):
        z = noises.x[part]
        gradient = objective.gradient(z, noises.gradient[part], turn)
        x[part], velocity[part] = optimiser(z, gradient, old[part])
    return Rows(x, history=(velocity,))


@torch.no_grad()
def scatter(worker: Worker, noises: Rows, at: Place, children: int, scale: float) -> Rows:
    """Make ``children`` of every noise, each off by ``scale`` times a normal of its own."""
    x = noises.x.repeat_interleave(children, dim=0)
    for part in worker._chunks(len(x)):
        x[part] += scale * worker.noise.normal(
            Purpose.MOVE, worker._address(at, part), tuple(x.shape[1:]), x.dtype
        )
    return Rows(x)


@torch.no_grad()
def slope(worker: Worker, noises: Rows, tried: Rows, weights: Float64[Tensor, "rows m"]) -> Rows:
    """Put ``sum_c weights_c (tried_c - noise)`` in the place of the gradient."""
    rows, children = weights.shape
    factors = weights.to(device=noises.x.device)
    gradient = torch.zeros_like(noises.x)
    for child in range(children):
        gradient += expand_over_event(factors[:, child], noises.x) * (
            tried.x.unflatten(0, (rows, children))[:, child] - noises.x
        )
    return noises.with_(gradient=gradient)
