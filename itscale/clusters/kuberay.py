"""Objects of KubeRay: RayCluster, RayJob, RayService."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from itscale.clusters import rules, schemas
from itscale.clusters.check import Problem, fits

LEAST_IDLE = 300
_WHERE = {"RayCluster": (), "RayJob": ("rayClusterSpec",), "RayService": ("rayClusterConfig",)}


def problems(document: dict[str, Any], kind: str) -> Iterator[Problem]:
    """What is wrong with an object."""
    found = list(fits(document, schemas.kuberay(kind)))
    yield from found
    if found:  # the rules below trust the shapes
        return
    place, cluster = "spec", document["spec"]
    for key in _WHERE[kind]:
        place, cluster = f"{place}.{key}", cluster[key]
    yield from _cluster(place, cluster)
    yield from rules.secrets(document)
    yield from rules.dashboards(document)
    if kind == "RayJob":
        yield from _job(document["spec"])


def _cluster(place: str, cluster: dict[str, Any]) -> Iterator[Problem]:
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield rules.no_token(f"{place}.authOptions", "write authOptions: {mode: token}")
    numbers = re.match(r"(\d+)\.(\d+)", cluster["rayVersion"])
    if numbers is None:
        yield Problem(f"{place}.rayVersion", f"{cluster['rayVersion']!r} is no version", "schema")
    else:
        yield from rules.too_old(f"{place}.rayVersion", (int(numbers[1]), int(numbers[2])))
    head = cluster["headGroupSpec"]
    if head.get("serviceType", "ClusterIP") != "ClusterIP":
        yield Problem(
            f"{place}.headGroupSpec.serviceType",
            f"{head['serviceType']} opens the head's ports to others; write ClusterIP and forward one",
            "security",
        )
    if head.get("enableIngress"):
        yield Problem(
            f"{place}.headGroupSpec.enableIngress", "opens the dashboard to the outside", "security"
        )
    if head["rayStartParams"].get("num-cpus") != "0":
        yield Problem(
            f"{place}.headGroupSpec.rayStartParams",
            'the head offers CPUs, and work may fill the memory that it lives by; write num-cpus: "0"',
            "conduct",
        )
    if cluster.get("enableInTreeAutoscaling"):
        idle = cluster.get("autoscalerOptions", {}).get("idleTimeoutSeconds", 60)
        if idle < LEAST_IDLE:
            yield Problem(
                f"{place}.autoscalerOptions.idleTimeoutSeconds",
                f"pods go after {idle} s, before a model has loaded; write {LEAST_IDLE} or more",
                "conduct",
            )
    yield from _pod(f"{place}.headGroupSpec", head["template"]["spec"], cluster["rayVersion"])
    for index, group in enumerate(cluster.get("workerGroupSpecs", ())):
        yield from _group(f"{place}.workerGroupSpecs.{index}", group, cluster["rayVersion"])


def _group(place: str, group: dict[str, Any], version: str) -> Iterator[Problem]:
    least, most = group.get("minReplicas", 0), group.get("maxReplicas", 2**31)
    if not least <= group.get("replicas", least) <= most:
        yield Problem(f"{place}.replicas", "should lie between minReplicas and maxReplicas", "schema")
    yield from _pod(place, group["template"]["spec"], version)


def _pod(place: str, pod: dict[str, Any], version: str) -> Iterator[Problem]:
    if pod.get("hostNetwork"):
        yield Problem(f"{place}.template.spec.hostNetwork", "opens Ray's ports on the machine", "security")
    named = {volume["name"] for volume in pod.get("volumes", ())}
    for index, container in enumerate(pod["containers"]):
        where = f"{place}.template.spec.containers.{index}"
        yield from image_problems(f"{where}.image", container["image"], version)
        for mount in container.get("volumeMounts", ()):
            if mount["name"] not in named:
                yield Problem(f"{where}.volumeMounts", f"no volume is called {mount['name']!r}", "schema")
        for variable in container.get("env", ()):
            if rules.SECRET_NAME.search(variable["name"]) and variable.get("value"):
                yield Problem(
                    f"{where}.env.{variable['name']}",
                    "a secret is written here; take it from a Secret by valueFrom.secretKeyRef",
                    "security",
                )


def image_problems(place: str, image: str, version: str | None = None) -> Iterator[Problem]:
    """Images without a fixed version, or of another Ray than the cluster's."""
    name, _, tag = image.rpartition(":")
    if not name or "/" in tag or tag == "latest":
        yield Problem(place, f"{image!r} is another image tomorrow; name a version", "security")
    elif version and name.endswith("rayproject/ray") and not tag.startswith(version):
        yield Problem(place, f"{image!r} holds another Ray than rayVersion {version}", "schema")


def _job(spec: dict[str, Any]) -> Iterator[Problem]:
    if not spec.get("shutdownAfterJobFinishes"):
        yield Problem(
            "spec.shutdownAfterJobFinishes", "the cluster stays when the sweep is over; write true", "conduct"
        )
    if "activeDeadlineSeconds" not in spec:
        yield Problem(
            "spec.activeDeadlineSeconds", "a job that hangs is paid for without end; set it", "conduct"
        )
    if "itscale sweep" in spec["entrypoint"] and "--resume" not in spec["entrypoint"]:
        yield Problem("spec.entrypoint", "a driver that is started again is refused; add --resume", "conduct")
