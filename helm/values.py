"""What the chart's values may be.

Defaults are in ``values.yaml``, and helm merges what a user gives into those before it looks here. So fields have no
defaults: one that is missing then was deleted with ``null``, and is refused.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from helm.jobs import Daily, Job, RayCluster, Training
from helm.monitoring import Monitoring
from helm.parts import Image, Ingress, Object, Pod, SecretKey
from recsys_mtl.config import Config
from serving.settings import Settings


class Images(Config):
    """What the pods run."""

    pullPolicy: Literal["Always", "IfNotPresent", "Never"]
    pullSecrets: list[str]
    """Secrets with the registry's credentials."""
    training: Image
    """Of Ray, the MLflow server, and what starts the daily run."""
    serving: Image


class ObjectStore(Config):
    """The S3 that training, serving and the MLflow server reach."""

    endpoint: str
    """``http://minio:9000``; empty is Amazon's."""
    region: str
    secretName: str
    """Secret with ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``; empty: the roles of the service accounts."""


class Volume(Config):
    """The disk of an MLflow server that lacks a database or an object store."""

    size: str
    storageClassName: str
    """Empty is the cluster's default."""


class MLflow(Pod):
    """The tracking server and model registry."""

    enabled: bool
    """Whether the chart runs one; otherwise ``uri`` names yours."""
    uri: str
    """Your server, where the chart runs none."""
    credentialsSecret: str
    """Secret with ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``, or ``MLFLOW_TRACKING_TOKEN``."""
    database: SecretKey
    """``postgresql://USER:PASSWORD@HOST:5432/DB``; without a Secret a SQLite file on the volume."""
    artifacts: str
    """``s3://BUCKET/PREFIX``; empty: a folder on the volume."""
    volume: Volume
    workers: PositiveInt
    allowedHosts: list[str]
    """Further names by which clients call the server, such as that of a load balancer of yours."""
    ingress: Ingress


class Service(Config):
    """The address of the ranking API within the cluster."""

    type: Literal["ClusterIP", "LoadBalancer", "NodePort"]
    port: Annotated[int, Field(ge=1, le=65535)]
    annotations: dict[str, str]


class Cache(Config):
    """Where bundles are kept."""

    size: str
    claimName: str
    """A claim of yours that all pods share; empty: each pod has a folder of its own."""


class Scaling(Config):
    """Pods by load."""

    enabled: bool
    minReplicas: PositiveInt
    maxReplicas: PositiveInt
    cpuPercent: Annotated[int, Field(ge=1, le=100)]
    """Of the requested processors, on average over the pods."""


class Disruption(Config):
    """What may be taken away at a time when nodes are drained."""

    enabled: bool
    maxUnavailable: PositiveInt


class Serving(Pod):
    """The ranking API."""

    enabled: bool
    replicas: PositiveInt
    """Where autoscaling is off."""
    settings: Settings
    """Of the service, by their names in small letters."""
    env: list[Object]
    """More environment variables, as in a pod."""
    apiKeys: SecretKey
    """Lines of ``recsys-mtl serve-key``; without a Secret everybody may ask."""
    preStopSeconds: NonNegativeInt
    """How long a pod that is to end goes on as ever, until it has left the lists of those that are sent requests."""
    service: Service
    cache: Cache
    autoscaling: Scaling
    disruption: Disruption
    topologyKeys: list[str]
    """Labels of nodes over whose values pods are spread as evenly as there is room."""
    ingress: Ingress


class NetworkPolicy(Config):
    """Who may talk to whom."""

    enabled: bool
    monitoringNamespace: str
    """Where Prometheus is."""
    kuberayNamespace: str
    """Where KubeRay's operator is, which asks Ray's head how its job is doing."""
    servingFrom: list[Object]
    """Peers that may ask the ranking API; empty: everybody."""
    mlflowFrom: list[Object]
    """Peers that may reach MLflow beside our own pods, such as the ingress controller's namespace."""
    egressPorts: list[Annotated[int, Field(ge=1, le=65535)]]
    """Ports on which our pods may reach any address: object store, database, Redis, the Kubernetes API."""


class Values(Config):
    """All of them."""

    global_: Annotated[dict[str, Any], Field(alias="global")] = {}
    """Unused; helm puts it here where this chart is part of another one."""
    fullnameOverride: Annotated[str, Field(pattern=r"^([a-z]([-a-z0-9]{0,26}[a-z0-9])?)?$")]
    """What all names begin with, up to 28 characters; empty: the release's name."""
    images: Images
    objectStore: ObjectStore
    mlflow: MLflow
    training: Training
    rayCluster: RayCluster
    job: Job
    daily: Daily
    serving: Serving
    networkPolicy: NetworkPolicy
    monitoring: Monitoring
