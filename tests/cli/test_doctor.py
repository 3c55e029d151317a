"""``itscale doctor``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from itscale.cli import diagnosis, extras

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]


def names(requirements):
    return {requirement.partition(">=")[0] for requirement in requirements}


def test_healthy_installation_exits_zero(itscale_command):
    done = itscale_command("doctor", "--json")
    assert done.code == 0
    assert done.json["ok"] is True
    found = {f["what"]: f["status"] for f in done.json["findings"]}
    assert found["torch"] == found["random numbers"] == found["sampling"] == "ok"


def test_table_ends_with_the_verdict(itscale_command):
    assert itscale_command("doctor").stdout.rstrip().endswith("The installation works.")


def test_wrong_random_numbers_are_broken(itscale_command, monkeypatch):
    from itscale import noise

    monkeypatch.setattr(noise, "philox", lambda counter, key: counter)
    done = itscale_command("doctor", "--json")
    assert done.code == 1
    assert "random numbers" in [f["what"] for f in done.json["findings"] if f["status"] == "broken"]


def test_absent_core_package_is_broken_and_absent_extra_is_not(itscale_command, monkeypatch):
    absent = {"safetensors", "ray"}
    monkeypatch.setattr(diagnosis, "is_present", lambda module: module not in absent)
    monkeypatch.setattr(extras, "is_present", lambda module: module not in absent)
    done = itscale_command("doctor", "--json")
    found = {f["what"]: f for f in done.json["findings"]}
    assert done.code == 1
    assert found["safetensors"]["status"] == "broken"
    assert found["extra cluster"] == {
        "what": "extra cluster",
        "status": "absent",
        "detail": "ray: pip install 'itscale[cluster]'",
    }


def test_folder_that_cannot_be_written_is_a_warning(monkeypatch, tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(diagnosis.tempfile, "TemporaryFile", refuse)
    found = diagnosis._writable("outputs", tmp_path / "not" / "there")
    assert (found.status, "Permission denied" in found.detail) == ("warning", True)


def test_tables_of_packages_equal_the_project_file():
    listed = {e: names(r) for e, r in PROJECT["optional-dependencies"].items() if e in extras.EXTRAS}
    assert {e: set(packages) for e, packages in extras.EXTRAS.items()} == listed
    assert set(extras.CORE) == names(PROJECT["dependencies"])
    bundles = {"all", "test", "dev"}
    assert set(PROJECT["optional-dependencies"]) - bundles == set(extras.EXTRAS)


@pytest.mark.ray
def test_ray_is_measured_and_the_threshold_is_named(itscale_command):
    from itscale.pools import session

    done = itscale_command("doctor", "--ray", "--json")
    assert done.code == 0, done.stdout
    found = {finding["what"]: finding for finding in done.json["findings"]}
    assert found["ray"]["status"] == "ok"
    assert "ms on all shards" in found["ray call"]["detail"]
    assert "whole cells" in found["shard from, 64 KiB"]["detail"]
    assert not session.is_own()


def test_a_cluster_that_does_not_answer_is_a_finding(itscale_command):
    done = itscale_command("doctor", "--ray", "--pool", "127.0.0.1:1", "--json")
    assert done.code == 1
    found = {finding["what"]: finding for finding in done.json["findings"]}
    assert "nobody answers" in found["ray"]["detail"]
