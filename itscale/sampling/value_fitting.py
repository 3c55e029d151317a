"""``fit_value``: learn what reward a noisy state comes to, once, for every later run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from itscale.errors import ConfigError
from itscale.methods import Unguided
from itscale.models.conditions import as_tensor
from itscale.networks.token_value_network import TokenValueNetwork
from itscale.networks.value_network import ValueNetwork
from itscale.sampling.entry import sample
from itscale.sampling.inputs import one_per_group
from itscale.sampling.noising import Noising, PathNoising, TokenNoising
from itscale.scoring import as_reward
from itscale.values.learned import Fitted, Learned, save_network

HELD_OUT = 0.2  # share of the samples that the fit does not see
BATCH = 256
JUDGED_AT = (0.1, 0.25, 0.5, 0.75, 0.9)
STEEP = 4.0  # log-ratio beyond which the loss of a soft value goes on linearly


class Examples(NamedTuple):
    """Data with their rewards, indices of their groups, and encoded conditions."""

    data: Tensor
    rewards: Tensor
    groups: Tensor
    conditions: Tensor | None

    def take(self, index: Tensor) -> Examples:
        given = None if self.conditions is None else self.conditions[index]
        return Examples(self.data[index], self.rewards[index], self.groups[index], given)


def fit_value(
    model: Any,
    reward: Any,
    path: str | Path,
    *,
    condition: Any = None,
    groups: int = 1,
    samples: int = 1024,
    steps: int | None = None,
    tilt: float = 0.0,
    updates: int = 2000,
    width: int = 96,
    rate: float = 2e-3,
    seed: int = 0,
    **settings: Any,
) -> Learned:
    """Draw samples of the model, score each once, and fit a network to the rewards of their noised states.

    A state at time t and the sample it comes to have, under the base process, the law of a sample and its
    noised state; so every sample serves at all times, with fresh noise at every update. That departs from
    the published fit, which stores the states of trajectories.

    States of a masked model are its samples with positions hidden at random, any number of them alike; of one
    trained on uniform noise, samples with tokens replaced.

    The loss is ``exp(z) - z - 1`` with ``z = tilt (r - v)``, whose minimiser is the soft value
    ``log E[exp(tilt r) | x_t] / tilt``; with tilt 0 it is the squared error, and v is the mean. A sharp tilt
    (above 2 or so over the reward's deviation) makes the former noisy: few samples then decide.

    Args:
        model, reward, condition, groups: as for ``sample``.
        path: the file to write.
        samples: per group.
        steps: of the sampler; 20 for continuous models, one position a step for masked ones.
        updates: gradient steps, of 256 noised states each.
        width: of the network.
        rate: learning rate at the start; it falls to 0 by a cosine.
        settings: further ones for ``sample``, such as ``guidance`` or ``solver``.

    Returns:
        The value, for ``sample(value=...)``. ``facts["explained"]`` is the share of the variance of held-out
        rewards within a group that it explains, by time.

    Cost: ``groups samples steps`` looks and a reward call a sample, then minutes of a CPU.

    Raises:
        ConfigError: if the rewards of the samples do not vary.

    Reference:
        Li et al. (2024), arXiv:2408.08252, section 4 (SVDD-MC).
    """
    if not 0 <= tilt < math.inf:
        raise ConfigError(f"tilt of a learned value must be finite and >= 0, got {tilt!r}")
    if samples * groups < 10:
        raise ConfigError(f"a value needs 10 samples and more, got {samples} in {groups} groups")
    scorer, is_masked = as_reward(reward), hasattr(model, "tokens")
    drawn = sample(
        model,
        reward=scorer,
        method=Unguided(particles=samples),
        condition=condition,
        groups=groups,
        steps=20 if steps is None and not is_masked else steps,
        seed=seed,
        **settings,
    )
    encoded = model.encode(one_per_group(condition, groups))
    known = drawn.rewards.flatten().isfinite()
    states = drawn.states.flatten(0, 1)
    every = Examples(
        states if is_masked else states.float(),
        drawn.rewards.flatten().float(),
        torch.arange(groups).repeat_interleave(samples),
        None if encoded is None else as_tensor(encoded).cpu().repeat_interleave(samples, dim=0),
    ).take(known.nonzero()[:, 0])
    if not float(every.rewards.std()) > 0:
        raise ConfigError("the rewards of the samples do not vary, so there is nothing to learn")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(every.rewards), generator=generator)
    held = every.take(order[: max(2, int(HELD_OUT * len(order)))])
    rest = every.take(order[len(held.rewards) :])
    noising = TokenNoising(model.tokens) if is_masked else PathNoising(model.interpolant)
    network = _network(model, rest, width, seed)
    _train(network, noising, rest, tilt, updates, rate, generator)
    facts = {
        "model": type(model).__name__,
        "reward": scorer.name,
        "tilt": float(tilt),
        "samples": len(every.rewards),
        "explained": _explained(network, noising, held, generator),
    }
    return Learned(str(save_network(network, path, facts)))


def _network(model: Any, examples: Examples, width: int, seed: int) -> Fitted:
    size = labels = 0
    given = examples.conditions
    if given is not None:
        is_label = given.ndim == 1 and not given.is_floating_point()
        labels = int(given.max()) + 1 if is_label else 0
        size = 0 if is_label else given[0].numel()
    with torch.random.fork_rng(devices=[]):  # initial weights come from torch's own generator
        torch.manual_seed(seed)
        if hasattr(model, "tokens"):
            network = TokenValueNetwork(model.tokens.offset, model.event_shape[0], size, labels, width)
        else:
            network = ValueNetwork(tuple(model.event_shape), size, labels, width)
    assert isinstance(network.mean, Tensor)
    assert isinstance(network.scale, Tensor)
    network.mean.copy_(examples.rewards.mean())
    network.scale.copy_(examples.rewards.std())
    return network


def _train(
    network: Fitted,
    noising: Noising,
    examples: Examples,
    tilt: float,
    updates: int,
    rate: float,
    generator: torch.Generator,
) -> None:
    scale = network.scale
    assert isinstance(scale, Tensor)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    with torch.enable_grad():
        for _ in range(updates):
            chosen = examples.take(torch.randint(len(examples.rewards), (BATCH,), generator=generator))
            share = torch.rand(BATCH, dtype=torch.float64, generator=generator)
            x, t = noising(chosen.data, share, generator)
            off = (chosen.rewards - network(x, t, chosen.conditions)) / scale
            loss = soft_loss(off, tilt * float(scale)).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            falling.step()


def soft_loss(off: Tensor, tilt: float) -> Tensor:
    """``2 (exp(z) - z - 1) / tilt^2`` with ``z = tilt off``: the square of ``off`` where the tilt goes to 0.

    Beyond ``STEEP`` the exponential goes on along its tangent, so that one sample cannot rule an update.
    """
    if tilt < 1e-3:
        return off.square()
    z = tilt * off
    low = z.clamp(max=STEEP)
    grown = torch.expm1(low) + math.exp(STEEP) * (z - low)
    return 2 * (grown - z) / tilt**2


@torch.no_grad()
def _explained(
    network: Fitted, noising: Noising, held: Examples, generator: torch.Generator
) -> dict[str, float]:
    """Squared correlation of forecasts with rewards within groups, by the share of the path behind."""
    found = {}
    member = torch.nn.functional.one_hot(held.groups).double()

    def centred(values: Tensor) -> Tensor:
        return values.double() - member @ ((member.T @ values.double()) / member.sum(0).clamp(min=1))

    reward = centred(held.rewards)
    for share in JUDGED_AT:
        x, t = noising(held.data, torch.full((len(held.rewards),), share).double(), generator)
        forecast = network(x, t, held.conditions)
        both = torch.corrcoef(torch.stack([centred(forecast), reward]))
        # forecasts that do not differ, as of sequences that are all hidden, explain nothing
        found[f"{share:g}"] = round(float(both[0, 1].nan_to_num(0.0).clamp(min=0) ** 2), 4)
    return found
