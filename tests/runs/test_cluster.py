"""What a cluster cannot do for a sweep is said before anything starts."""

from __future__ import annotations

import sys

import pytest

from itscale.errors import ConfigError, MissingExtra
from itscale.pools import session
from itscale.runs import run
from itscale.runs.cells import Cell
from itscale.runs.cluster import Cluster
from tests.runs.test_workers import CONFIG


def test_address_that_does_not_answer_is_an_error_in_time(tmp_path):
    session.disconnect()  # from what an earlier test may have joined
    with pytest.raises(ConfigError, match=r"nobody answers at '127\.0\.0\.1:1'"):
        run(CONFIG, out=tmp_path / "a", cluster=Cluster("127.0.0.1:1"))


def test_absent_ray_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"itscale\[cluster\]"):
        run(CONFIG, out=tmp_path / "a", cluster=Cluster())


def test_more_gpus_than_this_machine_has_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match=r"64 workers with 8 GPUs each need 512"):
        run(CONFIG, out=tmp_path / "a", workers=64, cluster=Cluster(gpus=8))
    assert not (tmp_path / "a").exists()


def test_sharded_particles_and_whole_cells_exclude_each_other():
    cell = Cell(0, {}, {"pool": {"name": "ray"}}, "smc", "smc")
    with pytest.raises(ConfigError, match=r"set pool\.name=local"):
        Cluster().check((cell,), 1)


@pytest.mark.parametrize("wrong", [{"deadline": 0}, {"start_timeout": -1}, {"gpus": -1}])
def test_settings_of_a_cluster_are_checked(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Cluster(**wrong)
