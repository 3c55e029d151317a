"""Schemas of the parts of cluster files that are used here, closed: a key that they lack is a typing error.

They are smaller than the originals (Ray 2.60's launcher, KubeRay 1.5 to 1.7's custom resources, pods of
Kubernetes) and agree with them where they speak.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {}
TEXTS: Schema = {"type": "array", "items": TEXT}
TEXT_MAP: Schema = {"type": "object", "additionalProperties": TEXT}
QUANTITY: Schema = {"type": ["string", "integer", "number"]}
OPEN: Schema = {"type": "object"}


def closed(required: str = "", **properties: Schema) -> Schema:
    """A mapping that has these keys and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


def many(item: Schema, least: int = 0) -> Schema:
    """A list."""
    return {"type": "array", "items": item, "minItems": least}


def one_of(*values: str) -> Schema:
    """One of some words."""
    return {"enum": list(values)}


_NODE_TYPE = closed(
    "resources node_config",
    resources={"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    node_config=OPEN,
    min_workers=COUNT,
    max_workers=COUNT,
    worker_setup_commands=TEXTS,
    labels=TEXT_MAP,
    docker=OPEN,
)
_PROVIDERS: dict[str, Schema] = {
    "local": closed("type head_ip worker_ips", type=TEXT, head_ip=TEXT, worker_ips=TEXTS),
    "aws": closed(
        "type region",
        type=TEXT,
        region=TEXT,
        availability_zone=TEXT,
        cache_stopped_nodes=FLAG,
        use_internal_ips=FLAG,
        key_pair=OPEN,
        security_group=OPEN,
        disable_launch_config_check=FLAG,
    ),
    "gcp": closed(
        "type region project_id",
        type=TEXT,
        region=TEXT,
        availability_zone=TEXT,
        project_id=TEXT,
        cache_stopped_nodes=FLAG,
        use_internal_ips=FLAG,
    ),
}


def launcher(provider: str) -> Schema:
    """The file of ``ray up`` for a provider."""
    return closed(
        "cluster_name provider auth head_start_ray_commands worker_start_ray_commands",
        cluster_name=TEXT,
        max_workers=COUNT,
        upscaling_speed={"type": "number", "minimum": 0},
        idle_timeout_minutes={"type": "number", "minimum": 0},
        provider=_PROVIDERS[provider],
        auth=closed("ssh_user", ssh_user=TEXT, ssh_private_key=TEXT, ssh_proxy_command=TEXT),
        docker=OPEN,
        available_node_types={"type": "object", "additionalProperties": _NODE_TYPE, "minProperties": 1},
        head_node_type=TEXT,
        file_mounts=TEXT_MAP,
        cluster_synced_files=TEXTS,
        file_mounts_sync_continuously=FLAG,
        rsync_exclude=TEXTS,
        rsync_filter=TEXTS,
        initialization_commands=TEXTS,
        setup_commands=TEXTS,
        head_setup_commands=TEXTS,
        worker_setup_commands=TEXTS,
        head_start_ray_commands={**TEXTS, "minItems": 1},
        worker_start_ray_commands={**TEXTS, "minItems": 1},
    )


PROVIDERS = tuple(_PROVIDERS)

_ENV = closed("name", name=TEXT, value=TEXT, valueFrom=OPEN)
_CONTAINER = closed(
    "name image resources",
    name=TEXT,
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    command=TEXTS,
    args=TEXTS,
    env=many(_ENV),
    envFrom=many(OPEN),
    ports=many(closed("containerPort", containerPort=COUNT, name=TEXT, protocol=TEXT)),
    lifecycle=closed(preStop=OPEN, postStart=OPEN),
    livenessProbe=OPEN,
    readinessProbe=OPEN,
    startupProbe=OPEN,
    resources=closed(
        requests={"type": "object", "additionalProperties": QUANTITY},
        limits={"type": "object", "additionalProperties": QUANTITY},
    ),
    securityContext=OPEN,
    volumeMounts=many(closed("name mountPath", name=TEXT, mountPath=TEXT, subPath=TEXT, readOnly=FLAG)),
    workingDir=TEXT,
)
_POD = closed(
    "containers",
    containers=many(_CONTAINER, 1),
    initContainers=many(_CONTAINER),
    volumes=many({"type": "object", "required": ["name"]}),
    restartPolicy=one_of("Always", "OnFailure", "Never"),
    terminationGracePeriodSeconds=COUNT,
    nodeSelector=TEXT_MAP,
    tolerations=many(OPEN),
    affinity=OPEN,
    topologySpreadConstraints=many(OPEN),
    serviceAccountName=TEXT,
    automountServiceAccountToken=FLAG,
    imagePullSecrets=many(OPEN),
    priorityClassName=TEXT,
    runtimeClassName=TEXT,
    schedulerName=TEXT,
    securityContext=OPEN,
    hostNetwork=FLAG,
)
_METADATA = closed(name=TEXT, namespace=TEXT, labels=TEXT_MAP, annotations=TEXT_MAP)
_TEMPLATE = closed("spec", metadata=_METADATA, spec=_POD)
_START = TEXT_MAP
CLUSTER = closed(
    "rayVersion headGroupSpec",
    rayVersion=TEXT,
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=closed(
        version=one_of("v1", "v2"),
        idleTimeoutSeconds=COUNT,
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        image=TEXT,
        imagePullPolicy=TEXT,
        resources=OPEN,
        env=many(_ENV),
        securityContext=OPEN,
    ),
    authOptions=closed("mode", mode=one_of("token", "disabled"), secretName=TEXT),
    gcsFaultToleranceOptions=OPEN,
    headServiceAnnotations=TEXT_MAP,
    suspend=FLAG,
    headGroupSpec=closed(
        "rayStartParams template",
        serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
        headService=OPEN,
        enableIngress=FLAG,
        rayStartParams=_START,
        template=_TEMPLATE,
        labels=TEXT_MAP,
        resources=TEXT_MAP,
    ),
    workerGroupSpecs=many(
        closed(
            "groupName rayStartParams template",
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            numOfHosts={"type": "integer", "minimum": 1},
            idleTimeoutSeconds=COUNT,
            suspend=FLAG,
            rayStartParams=_START,
            template=_TEMPLATE,
            labels=TEXT_MAP,
            resources=TEXT_MAP,
        )
    ),
)
_JOB = closed(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    entrypointNumCpus={"type": "number", "minimum": 0},
    entrypointNumGpus={"type": "number", "minimum": 0},
    entrypointResources=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "SidecarMode"),
    backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    jobId=TEXT,
    metadata=TEXT_MAP,
    runtimeEnvYAML=TEXT,
    suspend=FLAG,
    submitterPodTemplate=_TEMPLATE,
    submitterConfig=closed(backoffLimit=COUNT),
    rayClusterSpec=CLUSTER,
)
_SERVICE = closed(
    "serveConfigV2 rayClusterConfig",
    serveConfigV2=TEXT,
    serviceUnhealthySecondThreshold=COUNT,
    deploymentUnhealthySecondThreshold=COUNT,
    upgradeStrategy=OPEN,
    excludeHeadPodFromServeSvc=FLAG,
    serveService=OPEN,
    rayClusterConfig=CLUSTER,
)
_SPECS = {"RayCluster": CLUSTER, "RayJob": _JOB, "RayService": _SERVICE}


def kuberay(kind: str) -> Schema:
    """An object of KubeRay."""
    return closed(
        "apiVersion kind metadata spec",
        apiVersion=one_of("ray.io/v1"),
        kind=one_of(kind),
        metadata={**_METADATA, "required": ["name"]},
        spec=_SPECS[kind],
    )
