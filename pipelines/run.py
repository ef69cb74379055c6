"""TrainRun: everything that a person decides about a training run, as one typed tree."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipelines.warm import InitFromField
from recsys_mtl.config import Config, ConfigError
from recsys_mtl.data.reader import ReaderConfig
from recsys_mtl.health import HealthConfig
from recsys_mtl.model import ModelConfig
from recsys_mtl.objectives.losses import ObjectiveConfig
from recsys_mtl.registry import RegistryConfig
from recsys_mtl.tasks import TaskSelection
from recsys_mtl.tracking import TrackingConfig
from recsys_mtl.training.loop import TrainerConfig
from recsys_mtl.training.optim import OptimConfig


class DataConfig(Config):
    """What is learnt from."""

    path: Annotated[str, Field(min_length=1)]
    """A prepared data set: the directory that ``recsys-mtl prepare`` has written."""
    reader: ReaderConfig = ReaderConfig()


class ClusterConfig(Config):
    """Where the run takes place."""

    address: str = "local"
    """``local`` starts a cluster for this run, ``auto`` joins the one of this machine, ``ray://HOST:10001`` another."""
    workers: PositiveInt = 2
    """Training processes. Tables are spread over them."""
    cpus_per_worker: PositiveInt = 1
    """Processors, and threads for the dense part, of each worker."""
    gpus_per_worker: NonNegativeFloat = 0
    """GPUs of each worker: with any, the workers use CUDA and NCCL."""
    start_timeout_s: PositiveInt = 180
    """Give up when the cluster has not given the workers their resources after so long."""
    memory_gib: PositiveFloat | None = None
    """Memory that each worker has for tables. What does not fit is refused before anything starts, by ``plan``, too."""
    max_failures: NonNegativeInt = 3
    """How often workers are started again after one of them is lost; they go on from the newest checkpoint. Without
    checkpoints (``trainer.checkpoint.every_steps``) a lost worker ends the run."""
    collective_timeout_s: PositiveInt = 600
    """A worker that waits longer for the others ends the run with an error."""

    @property
    def backend(self) -> Literal["gloo", "nccl"]:
        """Communication library of torch.distributed."""
        return "nccl" if self.gpus_per_worker else "gloo"


class TrainRun(Config):
    """One training run. ``recsys-mtl schema`` prints the JSON schema of this tree."""

    data: DataConfig
    tasks: TaskSelection = TaskSelection()
    model: ModelConfig = ModelConfig()
    init_from: InitFromField | None = None
    """An earlier model whose weights the run begins with. Values that its data did not have begin as unknown ones."""
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig = OptimConfig()
    trainer: TrainerConfig = TrainerConfig()
    cluster: ClusterConfig = ClusterConfig()
    health: HealthConfig = HealthConfig()
    tracking: TrackingConfig = TrackingConfig()
    registry: RegistryConfig = RegistryConfig()
    run_name: str | None = None
    """Name in MLflow; made from the model and the time where it is not given."""
    seed: NonNegativeInt = 0
    """Of initial weights, order of rows and dropout: the same seed gives the same result."""

    @model_validator(mode="after")
    def _progressive_begins_somewhere(self) -> Self:
        if self.trainer.progressive and self.init_from is None:
            raise ConfigError(["init_from: field required: trainer.progressive tests the model that a run begins with"])
        return self
