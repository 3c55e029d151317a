"""Molecules as tokens: round trips, padding, what cannot be spelled, and the training losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itscale.errors import ConfigError
from itscale.models.molecules import MODELS, PAD

pytest.importorskip("rdkit")
pytest.importorskip("selfies")

SPELLING = MODELS["zinc"].spelling
KNOWN = ["CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "C[NH+](C)Cc1ccc(Cl)cc1", "CS(=O)(=O)N"]


def canonical(smiles):
    from rdkit import Chem

    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles))


def test_molecules_come_back_as_they_went():
    tokens = SPELLING.encode(KNOWN)
    assert tokens.shape == (4, 60)
    assert tokens.dtype == torch.int64
    assert [canonical(s) for s in SPELLING(tokens)] == [canonical(s) for s in KNOWN]


def test_padding_means_nothing_wherever_it_stands():
    assert SPELLING.symbols[0] == PAD
    tokens = SPELLING.encode(["CCO"])
    spread = torch.zeros_like(tokens)
    spread[0, [5, 20, 59]] = tokens[0, :3]
    assert SPELLING(spread) == SPELLING(tokens)
    assert SPELLING(torch.zeros(2, 60, dtype=torch.int64)) == ["", ""]


def test_any_tokens_spell_a_molecule():
    from rdkit import Chem

    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 37, (300, 60)))
    assert all(Chem.MolFromSmiles(s) is not None for s in SPELLING(tokens))


@pytest.mark.parametrize(
    ("smiles", "named"),
    [("C" * 61, "61 tokens"), ("[Fe]", r"\[Fe\]"), ("C1CC", "no SMILES"), ("N[C@@H](C)C(=O)O", "stereo")],
)
def test_what_cannot_be_spelled_is_named(smiles, named):
    with pytest.raises(ConfigError, match=named):
        SPELLING.encode(["CCO", smiles])
    assert SPELLING.encode([]).shape == (0, 60)


@pytest.mark.parametrize("name", MODELS)
def test_networks_are_small_and_vocabularies_are_sets(name):
    model = MODELS[name]
    assert sum(p.numel() for p in model.network().parameters()) <= 1_500_000
    assert len(set(model.spelling.symbols)) == model.spelling.vocabulary


def test_the_training_loss_is_the_bound_of_an_independent_law():
    """For tokens that are independent, minus log p is known, whatever is hidden."""
    from itscale.experiments.train_masked import bound

    law = torch.tensor([0.5, 0.3, 0.2])
    tokens = torch.multinomial(law, 4000 * 10, True, generator=torch.Generator().manual_seed(0)).reshape(
        -1, 10
    )
    found = bound(lambda x: law.log().expand(*x.shape, 3), tokens, 3, torch.Generator().manual_seed(1))
    exact = -law.log()[tokens].mean()
    # per row, the error is that of a mean over n of 10 positions drawn without replacement
    spread = (-law.log()[tokens]).std().item() / 4000**0.5
    assert abs(found.item() - exact.item()) < 4.89 * spread


def test_numbers_of_hidden_positions_are_uniform():
    from itscale.experiments.train_masked import hide

    tokens = torch.zeros(700, 7, dtype=torch.int64)
    hidden, weights = hide(tokens, 9, torch.Generator().manual_seed(0))
    counts = (hidden == 9).sum(dim=1)
    assert torch.bincount(counts, minlength=8).tolist()[1:] == [100] * 7
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(700))
    assert torch.equal(weights > 0, hidden == 9)
