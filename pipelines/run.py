"""TrainRun: everything that a person decides about a training run, as one typed tree."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from pipelines.warm import InitFromField
from recsys_mtl.calibration import Method
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
from recsys_mtl.training.sharding_rules import ShardingConfig


class DataConfig(Config):
    """What is learnt from."""

    path: Annotated[str, Field(min_length=1)]
    """A prepared data set: the directory, or ``s3://BUCKET/PREFIX``, that ``recsys-mtl prepare`` has written."""
    reader: ReaderConfig = ReaderConfig()


class Elastic(Config):
    """As many workers as the cluster has room for at the time."""

    min: PositiveInt = 1
    """Wait for more room rather than train on fewer."""
    max: PositiveInt
    """No more workers than this, however much room there is."""
    resize_every_s: PositiveInt = 60
    """Seconds between looks for room for more workers. Taking it up costs a restart from the newest checkpoint."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min > self.max:
            raise ConfigError([f"min: {self.min} is more than max, {self.max}"])
        return self


def _kind_of_workers(value: Any) -> str:
    return "a range" if isinstance(value, dict | Elastic) else "a number"


Workers = Annotated[
    Annotated[PositiveInt, Tag("a number")] | Annotated[Elastic, Tag("a range")], Discriminator(_kind_of_workers)
]


class ClusterConfig(Config):
    """Where the run takes place."""

    address: str = "local"
    """``local`` starts a cluster for this run, ``auto`` joins the one of this machine, ``ray://HOST:10001`` another."""
    workers: Workers = 2
    """Training processes, a number or ``{min, max}``. Tables are spread over them."""
    cpus_per_worker: PositiveInt = 1
    """Processors, and threads for the dense part, of each worker."""
    gpus_per_worker: NonNegativeFloat = 0
    """GPUs of each worker: with any, the workers use CUDA and NCCL."""
    resources: dict[Annotated[str, Field(min_length=1)], PositiveFloat] = {}
    """What each worker takes of the nodes' own resources, such as ``{highmem: 1, "accelerator_type:H100": 0.001}``."""
    placement: Literal["pack", "spread"] = "pack"
    """Workers on as few nodes as possible, or on as many."""
    start_timeout_s: PositiveInt = 180
    """Give up when the cluster has had no room for the workers for so long, at the start or after a node was lost."""
    memory_gib: PositiveFloat | None = None
    """Memory that each worker has for tables. What does not fit is refused before anything starts, by ``plan``, too.
    On CPU a worker is placed only where a node has so much memory left."""
    sharding: ShardingConfig = ShardingConfig()
    max_failures: NonNegativeInt = 3
    """How often workers are started again after one of them is lost; they go on from the newest checkpoint. Without
    checkpoints (``trainer.checkpoint.every_steps``) a lost worker ends the run."""
    collective_timeout_s: PositiveInt = 600
    """A worker that waits longer for the others ends the run with an error."""

    @model_validator(mode="after")
    def _own_resources_only(self) -> Self:
        fields = {"CPU": "cpus_per_worker", "GPU": "gpus_per_worker", "memory": "memory_gib"}
        if problems := [f"resources.{name}: use cluster.{fields[name]}" for name in fields if name in self.resources]:
            raise ConfigError(problems)
        return self

    @model_validator(mode="after")
    def _a_gpu_for_each_of_several(self) -> Self:
        if 0 < self.gpus_per_worker < 1 < self.max_workers:
            raise ConfigError(["gpus_per_worker: several workers need a GPU each, because NCCL does; set it to 1"])
        return self

    @property
    def min_workers(self) -> int:
        """Return the fewest workers that train."""
        return self.workers.min if isinstance(self.workers, Elastic) else self.workers

    @property
    def max_workers(self) -> int:
        """Return the most workers that train."""
        return self.workers.max if isinstance(self.workers, Elastic) else self.workers

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
    calibration: Method = "platt"
    """Calibrator of events: ``auto`` takes for each task the simplest that held-out users do not tell from the best."""
    cluster: ClusterConfig = ClusterConfig()
    health: HealthConfig = HealthConfig()
    tracking: TrackingConfig = TrackingConfig()
    registry: RegistryConfig = RegistryConfig()
    run_name: str | None = None
    """Name in MLflow; made from the model and the time where it is not given."""
    seed: NonNegativeInt = 0
    """Of initial weights, order of rows and dropout: the same seed gives the same result."""

    @model_validator(mode="after")
    def _elastic_runs_are_saved(self) -> Self:
        if isinstance(self.cluster.workers, Elastic) and self.trainer.checkpoint.every_steps is None:
            problem = "a number of workers that changes needs checkpoints to go on from"
            raise ConfigError([f"cluster.workers: {problem}: set trainer.checkpoint.every_steps"])
        return self

    @model_validator(mode="after")
    def _progressive_begins_somewhere(self) -> Self:
        if self.trainer.progressive and self.init_from is None:
            raise ConfigError(["init_from: field required: trainer.progressive tests the model that a run begins with"])
        return self
