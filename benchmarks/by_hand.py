"""SMC on one flow model written out in a page: what its arithmetic costs without a library around it.

No budgets, traces, checks of rewards, checkpoints, micro-batches, or other models: a floor to compare with.
"""

from __future__ import annotations

from typing import Any

import torch

from itscale.noise import Address, Noise, Purpose


@torch.no_grad()
def smc_by_hand(model: Any, groups: int, particles: int, steps: int, tilt: float, addressed: bool) -> Any:
    """Return samples of the digit 3, (groups * particles, 1, 28, 28), that tend to be bright.

    The velocity of the linear path and the SDE ``dx = v + g^2 / 2 score dt + g dW`` with ``g^2 = 2 (1 - t)``;
    rewards of the denoised states at every step, systematic resampling below half of the particles.

    Args:
        addressed: noise of ``itscale.noise``, which does not depend on batches, or torch's own.
    """
    rows, event, noise = groups * particles, tuple(model.event_shape), Noise(0)
    group = torch.arange(groups).repeat_interleave(particles)
    slot, zero = torch.arange(particles).repeat(groups), torch.zeros(rows, dtype=torch.int64)
    condition = torch.full((rows,), 3)
    x = noise.normal(Purpose.INITIAL, Address(group, zero, slot, zero), event, torch.float32)
    log_weights = torch.zeros(groups, particles, dtype=torch.float64)
    before = torch.zeros_like(log_weights)
    times = torch.linspace(0, 1, steps + 1)
    for k in range(steps):
        t, dt, left = times[k], times[k + 1] - times[k], 1 - times[k]
        velocity = model.predict(x, t.expand(rows), condition)
        denoised = x + left * velocity
        reward = (denoised.clamp(-1, 1) * 0.5 + 0.5).mean((1, 2, 3)).double().reshape(groups, particles)
        log_weights, before = log_weights + tilt * (reward - before), reward
        weights = torch.softmax(log_weights, 1)
        if bool((1 / weights.square().sum(1) < particles / 2).any()):
            points = (torch.arange(particles) + torch.rand(groups, 1)) / particles
            index = torch.searchsorted(weights.cumsum(1), points.double()).clamp(max=particles - 1)
            index = (index + particles * torch.arange(groups)[:, None]).flatten()
            x, velocity, denoised = x[index], velocity[index], denoised[index]
            before, log_weights = before.flatten()[index].reshape(groups, -1), torch.zeros_like(log_weights)
        if addressed:
            z = noise.normal(Purpose.MOVE, Address(group, zero + k, slot, zero), event, torch.float32)
        else:
            z = torch.randn_like(x)
        score = -(x - t * denoised) / left.square()
        x = x + (velocity + left * score) * dt + (2 * left * dt).sqrt() * z
    return x
