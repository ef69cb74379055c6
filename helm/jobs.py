"""The chart's values for training: Ray, and what runs on it."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from helm.parts import Object, Placement, PlainText, Resources, ServiceAccount
from pipelines.daily_config import Pipeline
from pipelines.run import TrainRun
from recsys_mtl.config import Config

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,14}[a-z0-9])?$")]
"""KubeRay takes job names of up to 47 characters, of which 28 are the release's."""


class Workers(Placement):
    """Ray nodes of one kind."""

    name: Name
    replicas: NonNegativeInt
    minReplicas: NonNegativeInt
    """With autoscaling, as is ``maxReplicas``."""
    maxReplicas: PositiveInt


class Autoscaling(Config):
    """Nodes that Ray asks for and gives back."""

    enabled: bool
    idleTimeoutSeconds: PositiveInt


class Training(Config):
    """What is trained, and the Ray nodes that it is trained on."""

    presets: list[PlainText]
    """Files below ``pipelines/configs``, merged left to right."""
    run: TrainRun
    """Fields of a training run, merged over the presets. The chart itself sets the address of the Ray cluster and of
    MLflow, and the jobs below the data and the run's name."""
    retries: NonNegativeInt
    """How often a job that failed is run again, on new nodes; it goes on where it was."""
    deadlineSeconds: PositiveInt
    """A job that takes longer is ended."""
    keepSeconds: NonNegativeInt
    """How long the Ray nodes of a job stay when it is done."""
    head: Placement
    workers: Annotated[list[Workers], Field(min_length=1)]
    autoscaling: Autoscaling
    env: list[Object]
    """More environment variables of all Ray nodes, as in a pod."""
    volumes: list[Object]
    volumeMounts: list[Object]
    podAnnotations: dict[str, str]
    serviceAccount: ServiceAccount


class RayCluster(Config):
    """Ray nodes that stay, for ``recsys-mtl submit``."""

    enabled: bool


class Job(Config):
    """One training run."""

    enabled: bool
    name: Name
    """Also the run's name in MLflow; another name is another run."""
    data: PlainText
    """The prepared data set, ``s3://BUCKET/PREFIX``."""
    args: list[PlainText]
    """More arguments of ``recsys-mtl train``."""


class Daily(Config):
    """The daily pipeline."""

    enabled: bool
    schedule: Annotated[str, Field(min_length=1)]
    timeZone: str
    suspend: bool
    days: PlainText
    """Where prepared days appear, ``s3://BUCKET/PREFIX``."""
    pipeline: Pipeline
    """What is done besides learning; empty: nothing."""
    args: list[PlainText]
    """More arguments of ``recsys-mtl daily``."""
    successfulJobsHistoryLimit: NonNegativeInt
    failedJobsHistoryLimit: NonNegativeInt
    resources: Resources
    """Of the small pod that starts the run and waits for it."""
