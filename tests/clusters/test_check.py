"""The files of ``ray_configs/`` are in order, and what is broken in them is found for the right reason."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml

from itscale.clusters import check_text, kind_of
from itscale.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[2] / "ray_configs"
FILES = sorted([*FOLDER.rglob("*.yaml"), *FOLDER.rglob("*.sbatch")])
PREM = "local/on-prem.yaml"
SPOT, SERVICE = "aws/gpu-spot.yaml", "kuberay/rayservice-reward.yaml"
CLUSTER, JOB = "kuberay/raycluster-autoscale.yaml", "kuberay/rayjob-sweep.yaml"
RAY, ARRAY = "slurm/ray-sweep.sbatch", "slurm/array-sweep.sbatch"

MUTANTS = {
    "no token mode on a head": (
        SPOT, "RAY_AUTH_MODE=token ray start --head", "ray start --head", "security", "run code",
    ),
    "no token mode in KubeRay": (CLUSTER, "mode: token", "mode: disabled", "security", "authOptions"),
    "no token mode in SLURM": (
        RAY, "export RAY_AUTH_MODE=token", "export RAY_OTHER=1", "security", "RAY_AUTH_MODE",
    ),
    "token others can read": (SPOT, "chmod 600", "chmod 644", "security", "chmod 600"),
    "token made before the mask": (RAY, "umask 077", "umask 022", "security", "umask 077"),
    "dashboard everywhere": (
        SPOT, "dashboard-host=127.0.0.1", "dashboard-host=0.0.0.0", "security", "forward",
    ),
    "dashboard of a pod everywhere": (
        CLUSTER, "dashboard-host: 127.0.0.1", "dashboard-host: 0.0.0.0", "security", "forward",
    ),
    "load balancer": (
        CLUSTER, "serviceType: ClusterIP", "serviceType: LoadBalancer", "security", "ClusterIP",
    ),
    "node port": (JOB, "serviceType: ClusterIP", "serviceType: NodePort", "security", "ClusterIP"),
    "image without a version": (CLUSTER, "itscale:0.1.0-ray2.60.0", "itscale:latest", "security", "tomorrow"),
    "secret in a command": (
        SPOT, "RAY_AUTH_MODE=token ray start --head", "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=a ray start --head",
        "security", "a secret is written",
    ),
    "secret in a pod": (
        SERVICE, "valueFrom:\n                      secretKeyRef: {name: itscale-reward, key: token}",
        "value: hunter2", "security", "secretKeyRef",
    ),
    "door to the internet": (
        SPOT, "use_internal_ips: true",
        "security_group: {IpPermissions: [{IpRanges: [{CidrIp: 0.0.0.0/0}]}]}", "security", "whole internet",
    ),
    "old Ray": (CLUSTER, 'rayVersion: "2.60.0"', 'rayVersion: "2.53.0"', "security", "2.54"),
    "old Ray by pip": (SPOT, "ray==2.60.0", "ray==2.9.0", "security", "2.54"),
    "misspelt key": (
        SPOT, "max_workers: 64\nupscaling", "max_worker: 64\nupscaling", "schema", "'max_workers'",
    ),
    "misspelt key of a provider": (
        SPOT, "use_internal_ips", "use_internal_ip", "schema", "'use_internal_ips'",
    ),
    "misspelt key of KubeRay": (JOB, "backoffLimit", "backOffLimit", "schema", "'backoffLimit'"),
    "misspelt key of a container": (CLUSTER, "volumeMounts:", "volumeMount:", "schema", "'volumeMounts'"),
    "wrong word": (JOB, "submissionMode: K8sJobMode", "submissionMode: Batch", "schema", "K8sJobMode"),
    "wrong type": (CLUSTER, "maxReplicas: 64", 'maxReplicas: "64"', "schema", "integer"),
    "unknown head": (SPOT, "head_node_type: head", "head_node_type: haed", "schema", "'head'"),
    "volume that is not there": (
        CLUSTER, "{name: shm, mountPath", "{name: sham, mountPath", "schema", "sham",
    ),
    "work on the head": (CLUSTER, 'num-cpus: "0"', 'num-cpus: "4"', "conduct", "num-cpus"),
    "idle too soon": (CLUSTER, "idleTimeoutSeconds: 600", "idleTimeoutSeconds: 60", "conduct", "300"),
    "GPUs that stay": (
        SPOT, "gpu-spot:\n    min_workers: 0", "gpu-spot:\n    min_workers: 8", "conduct", "paid for",
    ),
    "head without an autoscaler": (
        PREM, " --autoscaling-config=~/ray_bootstrap_config.yaml", "", "conduct", "never starts a worker",
    ),
    "cluster that stays": (
        JOB, "shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false", "conduct", "stays",
    ),
    "driver that cannot go on": (JOB, " --resume", "", "conduct", "--resume"),
    "fixed sleep": (RAY, "until answers; do", "sleep 30\nuntil answers; do", "conduct", "deadline"),
    "end of every Ray": (RAY, 'rm -rf "$private"', "ray stop --force", "conduct", "every Ray"),
    "no requeue": (ARRAY, "#SBATCH --requeue\n", "", "conduct", "requeue"),
    "no end": (ARRAY, "#SBATCH --time=08:00:00\n", "", "conduct", "--time"),
    "broken shell": (ARRAY, "fi\nexit", "exit", "schema", "bash"),
}  # fmt: skip


def text_of(name):
    return (FOLDER / name).read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(FOLDER).as_posix())
def test_every_file_is_in_order(path):
    assert check_text(path.read_text(), path.name) == []


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_file_is_refused_for_the_right_reason(name):
    file, old, new, rule, said = MUTANTS[name]
    text = text_of(file)
    assert old in text
    found = check_text(text.replace(old, new), file)
    assert found
    assert {problem.rule for problem in found} == {rule}
    assert any(said in f"{problem.place} {problem.what}" for problem in found), found


def test_kinds_are_told_apart():
    kinds = {kind_of(path.read_text(), path.name) for path in FILES}
    assert kinds == {"launcher", "RayCluster", "RayJob", "RayService", "sbatch"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: RayClustre\napiVersion: ray.io/v1\n", "'RayCluster'"),
        ("a: [1\n", "line 2 is not valid YAML"),
        ("model: digits\n", "cluster_name"),
        ("- 1\n", "no mapping"),
        ("#!/bin/bash\necho\n", "#SBATCH"),
        ("cluster_name: a\nprovider: {type: asw}\n", "'aws'"),
    ],
)
def test_what_is_no_cluster_is_named(text, said):
    try:
        told = " ".join(problem.what for problem in check_text(text, "file"))
    except ConfigError as error:
        told = str(error)
    assert said in told


def test_launchers_pass_the_check_of_ray_itself():
    util = pytest.importorskip("ray.autoscaler._private.util")
    for path in FILES:
        if kind_of(path.read_text(), path.name) == "launcher":
            config = yaml.safe_load(path.read_text())
            config["provider"].setdefault("worker_ips", [])
            util.validate_config(util.prepare_config(copy.deepcopy(config)))


def test_job_and_cluster_describe_the_same_machines():
    job, cluster = (yaml.safe_load(text_of(name)) for name in (JOB, CLUSTER))
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_readme_has_a_row_for_every_file():
    readme = (FOLDER / "README.md").read_text()
    assert [p.name for p in FILES if p.relative_to(FOLDER).as_posix() not in readme] == []
    docs = (FOLDER.parent / "docs" / "cluster.md").read_text()
    assert [p.name for p in FILES if f"ray_configs/{p.relative_to(FOLDER).as_posix()}" not in docs] == []


def test_serve_configuration_names_what_exists():
    from itscale.remote import ray_serve

    serve = yaml.safe_load(yaml.safe_load(text_of(SERVICE))["spec"]["serveConfigV2"])
    application = serve["applications"][0]
    assert application["import_path"] == f"{ray_serve.__name__}:{ray_serve.app.__name__}"
    assert application["deployments"][0]["name"] == ray_serve.RewardDeployment.__name__
    assert set(application["args"]) <= set(ray_serve.RewardDeployment.__init__.__annotations__)


def test_command_prints_and_fails(itscale_command, tmp_path):
    good = itscale_command("cluster", "check", str(FOLDER / SPOT))
    assert (good.code, "ok" in good.stdout) == (0, True), good.stderr
    (tmp_path / "bad.yaml").write_text(text_of(SPOT).replace("chmod 600", "chmod 644"))
    bad = itscale_command("cluster", "check", "bad.yaml", "--json")
    assert bad.code == 1
    assert json.loads(bad.stdout)[0]["problems"][0]["rule"] == "security"
    assert itscale_command("cluster", "check", "absent.yaml").code == 2
