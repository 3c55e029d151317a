"""The masked transformer: shapes, independence of rows, what it sees, what it refuses."""

from __future__ import annotations

import pytest
import torch

from itscale.errors import ConfigError
from itscale.networks.masked_transformer import MaskedTransformer

SIZES = {"vocabulary": 5, "length": 7, "width": 16, "layers": 2, "heads": 4}


@pytest.fixture(scope="module")
def network() -> MaskedTransformer:
    """A network in which nothing is zero, so that every path shows."""
    generator = torch.Generator().manual_seed(0)
    network = MaskedTransformer(**SIZES).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(0, 6, (4, 7), generator=torch.Generator().manual_seed(1))


def test_logits_have_a_column_per_token_and_rows_are_independent(network, tokens):
    logits = network(tokens)
    assert logits.shape == (4, 7, 5)
    assert logits.dtype == torch.float32
    alone = torch.cat([network(tokens[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(logits, alone, rtol=1e-5, atol=1e-5)


def test_every_position_sees_every_other(network, tokens):
    base = network(tokens[:1])
    for position in range(7):
        changed = tokens[:1].clone()
        changed[0, position] = (changed[0, position] + 1) % 6
        assert ((network(changed) - base).abs().amax(dim=2) > 1e-6).all()


def test_positions_and_distances_tell_places_apart(network):
    same = torch.full((1, 7), 2)
    logits = network(same)[0]
    assert (logits[0] - logits[3]).abs().max() > 1e-4
    blind = MaskedTransformer(**SIZES).eval()
    blind.load_state_dict(network.state_dict())
    with torch.no_grad():
        blind.position.zero_()
    moved = blind(torch.tensor([[1, 2, 3, 5, 5, 5, 5]]))[0]
    assert (moved[3] - moved[6]).abs().max() > 1e-4, "distances alone tell how far the tokens are"


@pytest.mark.parametrize(("name", "value"), [("vocabulary", 0), ("heads", 3), ("dropout", 1.0)])
def test_sizes_that_do_not_fit_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        MaskedTransformer(**{**SIZES, name: value})
