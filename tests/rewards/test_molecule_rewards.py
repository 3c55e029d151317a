"""Rewards of molecules: known values, what is no molecule, the cache, processes, docking programs."""

from __future__ import annotations

import math
import os
import time

import pytest
import torch

from itscale.errors import ConfigError, UnknownName
from itscale.rewards import QED, TPSA, Docking, LogP, MolecularWeight, NoAlerts, Novelty, Rings, Similarity
from itscale.scoring import Cached, as_reward, geometric_mean

pytest.importorskip("rdkit")

ASPIRIN, CAFFEINE = "CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C"


def score(reward, *smiles):
    return as_reward(reward).score(list(smiles))


def test_values_are_those_in_the_literature():
    # Bickerton et al. (2012) and PubChem
    assert score(QED(), ASPIRIN).values.item() == pytest.approx(0.55, abs=0.01)
    assert score(MolecularWeight(), ASPIRIN).values.item() == pytest.approx(180.16, abs=0.01)
    assert score(TPSA(), ASPIRIN).values.item() == pytest.approx(63.6, abs=0.1)
    assert score(Rings(), CAFFEINE).values.item() == 2
    assert score("hydrogen-donors", ASPIRIN).values.item() == 1
    assert score("rotatable-bonds", ASPIRIN).values.item() == 2
    # Ertl and Schuffenhauer: simple molecules are near 1
    assert score("synthesizability", ASPIRIN).values.item() == pytest.approx((10 - 1.58) / 9, abs=0.01)


def test_penalized_logp_punishes_large_rings():
    small, large = score("penalized-logp", "C1CCCCC1", "C1CCCCCCCCC1").values.tolist()
    parts = [score("logp", s).values.item() for s in ("C1CCCCC1", "C1CCCCCCCCC1")]
    sa = [10 - 9 * score("synthesizability", s).values.item() for s in ("C1CCCCC1", "C1CCCCCCCCC1")]
    assert small == pytest.approx(parts[0] - sa[0], abs=1e-4)
    assert large == pytest.approx(parts[1] - sa[1] - 4, abs=1e-4)


def test_a_window_is_one_inside_and_fades_as_a_gaussian():
    logp = score(LogP(), ASPIRIN).values.item()
    assert score(LogP(low=logp - 1, high=logp + 1), ASPIRIN).values.item() == 1
    above = score(LogP(high=logp - 1, width=2.0), ASPIRIN).values.item()
    below = score(LogP(low=logp + 1, width=2.0), ASPIRIN).values.item()
    assert above == pytest.approx(math.exp(-(0.5**2) / 2), abs=1e-5)
    assert below == pytest.approx(above, abs=1e-5)


def test_similarity_is_one_for_itself_and_takes_the_nearest():
    both = Similarity(reference=[ASPIRIN, CAFFEINE])
    assert score(both, "OC(=O)c1ccccc1OC(C)=O", CAFFEINE).values.tolist() == [1, 1]
    near = score(Similarity(reference=ASPIRIN), "O=C(O)c1ccccc1O").values.item()
    assert 0.3 < near < 1
    assert score(Novelty(reference=ASPIRIN), "O=C(O)c1ccccc1O").values.item() == pytest.approx(1 - near)


def test_alerts_find_a_quinone_and_pass_caffeine():
    assert score(NoAlerts(), "O=C1C=CC(=O)C=C1", CAFFEINE).values.tolist() == [0, 1]
    assert score("substructure(smarts='[OX2H]')", "CCO", "CC").values.tolist() == [1, 0]


@pytest.mark.parametrize("text", ["", "xx", "C1CC", "C(C)(C)(C)(C)C"])
def test_what_is_no_molecule_scores_zero_or_has_no_score(text):
    bounded, open_ended = score("qed", text, "CCO"), score("logp", text, "CCO")
    assert bounded.values[0] == 0
    assert bounded.valid.all()
    assert not open_ended.valid[0]
    assert open_ended.valid[1]
    assert open_ended.first_reason == "no molecule"
    assert score("logp(low=0, high=2)", text).values.item() == 0
    assert score("logp(invalid=-9.0)", text).values.item() == -9
    strict = score("qed(invalid=None)", text, "CCO")
    assert strict.valid.tolist() == [False, True]


def test_rdkit_molecules_are_scored_as_their_smiles():
    from rdkit import Chem

    assert torch.equal(score("qed", Chem.MolFromSmiles(ASPIRIN)).values, score("qed", ASPIRIN).values)
    with pytest.raises(ConfigError, match="SMILES"):
        as_reward("qed").score([3.0])


def test_a_molecule_is_measured_once_however_it_is_written(monkeypatch):
    seen = []
    monkeypatch.setattr(QED, "measure", lambda self, molecule: seen.append(molecule) or 0.5)
    reward = QED(seconds=29.0)  # its own place in the cache
    score(reward, "OCCC", "CCCO", "C(O)CC", "CCCO")
    assert score(reward, "CCCO").values.item() == 0.5
    assert len(seen) == 1
    # a run counts what it had scored; Cached counts what was new as well
    assert score(reward, "CCCO", "CCCO").calls == 2
    assert score(Cached(reward), "CCCO", "CCCO").calls == 1


def test_a_failing_descriptor_costs_its_own_molecule(monkeypatch):
    def fails(self, molecule):
        if molecule.GetNumAtoms() == 2:
            raise ValueError("two atoms")
        return 0.5

    monkeypatch.setattr(QED, "measure", fails)
    scores = score(QED(seconds=28.0), "CC", "CCC")
    assert scores.valid.tolist() == [False, True]
    assert "two atoms" in scores.first_reason


@pytest.mark.slow
def test_processes_give_the_same_scores():
    here, there = (
        score("qed * synthesizability", ASPIRIN, "", CAFFEINE),
        score("qed(workers=2) * synthesizability(workers=2)", ASPIRIN, "", CAFFEINE),
    )
    assert torch.equal(here.values, there.values)


def test_objectives_combine():
    a, b = (score(name, ASPIRIN).values.item() for name in ("qed", "synthesizability"))
    assert score("qed + synthesizability", ASPIRIN).values.item() == pytest.approx(a + b)
    assert score("qed * synthesizability", ASPIRIN).values.item() == pytest.approx(a * b)
    assert score("minimum(qed, synthesizability)", ASPIRIN).values.item() == pytest.approx(min(a, b))
    mean = score("geometric_mean(qed, synthesizability)", ASPIRIN, "")
    assert mean.values.tolist() == pytest.approx([(a * b) ** 0.5, 0.0])
    weighted = score(geometric_mean("qed", "synthesizability", weights=[3, 1]), ASPIRIN)
    assert weighted.values.item() == pytest.approx((a**3 * b) ** 0.25)
    written = score("geometric_mean(qed, synthesizability, weights=[3, 1])", ASPIRIN)
    assert torch.equal(written.values, weighted.values)
    assert set(mean.parts) == {"qed", "synthesizability"}


def test_desirability_refuses_what_means_nothing():
    with pytest.raises(ConfigError, match="at least two"):
        geometric_mean("qed")
    with pytest.raises(ConfigError, match="weights"):
        geometric_mean("qed", "synthesizability", weights=[1])
    with pytest.raises(ConfigError, match="weights"):
        geometric_mean("qed", "synthesizability", weights=[1, 0])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("similarity", "reference"),
        ("similarity(reference='xx')", "xx"),
        ("similarity(reference='CC', radius=0)", "radius"),
        ("logp(low=3, high=1)", "swap"),
        ("logp(low=1, width=0)", "width"),
        ("qed(workers=-1)", "workers"),
        ("qed(seconds=0)", "seconds"),
        ("no-alerts(catalogs='BRENKS')", "BRENK"),
        ("substructure(smarts='[')", "SMARTS"),
        ("docking", "command"),
        ("docking(command='echo {smiles}', function='math:sin')", "either"),
        ("docking(command='no-such-program {smiles}')", "no-such-program"),
        ("docking(command='echo 3')", "smiles"),
        ("docking(command='echo {smiles}', pattern='(')", "regular expression"),
        ("docking(command='echo {smiles}', pattern='a')", "one group"),
        ("docking(function='math:sinus')", "sinus"),
    ],
)
def test_bad_arguments_are_named(text, named):
    with pytest.raises(ConfigError, match=named.replace("(", r"\(")):
        as_reward(text)


def test_a_name_nearby_is_suggested():
    with pytest.raises(UnknownName, match="synthesizability"):
        as_reward("synthesisability")


def test_docking_reads_the_last_number_and_clips():
    scores = score(Docking(command="echo 1 {smiles} -7.5"), "c1ccccc1", "CCO")
    assert scores.values.tolist() == [7.5, 7.5]
    assert score(Docking(command="echo {smiles} 2.5"), "CCO").values.item() == 0
    as_is = Docking(command="echo {smiles} -2.5", lower_is_better=False)
    assert score(as_is, "CCO").values.item() == -2.5


def test_docking_programs_get_a_conformation():
    scores = score(Docking(command="grep -c H {ligand}"), "CCO")
    assert scores.values.tolist() == [0]  # some count, which is positive and so clipped
    counted = score(Docking(command="grep -c ' H ' {ligand}", lower_is_better=False), "CCO")
    assert counted.values.item() == 6


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false {smiles}", "ended with 1"),
        ("echo nonsense {smiles}", "no energy"),
        ("echo {smiles} -nan", "no energy"),
        ("echo {smiles} 1e999", "the score is"),
    ],
)
def test_docking_that_fails_leaves_no_score_and_a_reason(command, reason):
    scores = score(Docking(command=command, lower_is_better=False), "CCO", "")
    assert scores.valid.tolist() == [False, True]
    assert reason in scores.first_reason


def test_docking_that_hangs_is_ended_with_its_children(tmp_path):
    script = tmp_path / "dock.sh"
    script.write_text(f"sleep 60 &\necho $! > {tmp_path}/pid\nwait\n")
    start = time.monotonic()
    scores = score(Docking(command=f"sh {script} {{smiles}}", seconds=1.0), "CCO", "")
    assert not scores.valid[0]
    assert "longer than 1 seconds" in scores.first_reason
    assert time.monotonic() - start < 30
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        if _state(child) == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child still runs")


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.slow
def test_docking_functions_run_in_processes(tmp_path):
    file = tmp_path / "energy.py"
    file.write_text(
        "import os\ndef energy(smiles):\n    return os._exit(3) if smiles == 'CC' else -len(smiles)\n"
    )
    scores = score(Docking(function=f"{file}:energy", workers=2, seconds=60.0), "CCC", "CC", "CCCC")
    assert scores.values[[0, 2]].tolist() == [3, 4]
    assert scores.valid.tolist() == [True, False, True]
    assert "exit code 3" in scores.first_reason
