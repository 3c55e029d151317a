"""The quickstart and a molecule run over two workers, either way, come to the table of one process."""

from __future__ import annotations

import json

import pytest

from itscale.pools import Local
from itscale.runs import load_config, run, summary_table
from itscale.runs.cluster import Cluster
from tests.runs.test_workers import plain

pytestmark = [pytest.mark.ray, pytest.mark.shards(2)]
RUNS = {
    "quickstart": ["run.steps=3", "sweep={method: [unguided, svdd, smc], run.budget.nfe: [12]}"],
    "molecules": ["run.steps=4", "run.groups=1", "sweep={method: [best-of-n, smc], run.budget.nfe: [24]}"],
}


@pytest.fixture(scope="module", params=sorted(RUNS))
def configuration(request):
    if request.param == "molecules":
        pytest.importorskip("rdkit")
    return load_config(request.param, RUNS[request.param])


@pytest.fixture(scope="module")
def here(configuration, tmp_path_factory):
    folder = tmp_path_factory.mktemp("here") / "run"
    return run(configuration, out=folder, threads=1, pool=Local(microbatch=16, bitwise=True))


def shown(done):
    """The table's columns, but for the time."""
    return {c.header: list(c.cells) for c in summary_table(done).columns if c.header != "seconds"}


def test_whole_cells(configuration, here, own_ray, tmp_path):
    pool = Local(microbatch=16, bitwise=True)
    there = run(
        configuration, out=tmp_path / "there", workers=2, threads=1, pool=pool, cluster=Cluster(gpus=0)
    )
    assert shown(there) == shown(here)
    assert plain(there.rows) == plain(here.rows)


def test_sharded_particles(configuration, here, pool, tmp_path):
    there = run(configuration, out=tmp_path / "there", pool=pool(2, microbatch=16))
    assert shown(there) == shown(here)
    assert len(next(iter(shown(here).values()))) == len(configuration.cells)
    moves = [json.loads(line) for line in (there.folder / "shards.jsonl").read_text().splitlines()]
    trace = [json.loads(line) for line in (there.folder / "trace.jsonl").read_text().splitlines()]
    assert {(m["cell"], m["level"]) for m in moves} == {(t["cell"], t["level"]) for t in trace}
    assert all(0 <= m["overhead_ratio"] <= 1 for m in moves)
    assert not (here.folder / "shards.jsonl").exists()
