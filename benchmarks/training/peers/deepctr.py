"""deepctr-torch: ``model.compile`` and ``model.fit``, which makes its own loader of arrays.

Penalties on weights, which its models have by default, are off, as on all sides. Its PLE makes as many shared experts
as a task has of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import basemodel
from deepctr_torch.models.multitask import MMOE, PLE
from torch.utils.data import DataLoader

from benchmarks.training.exchange import Job, answer
from benchmarks.training.peers.data import Inputs, field_names, pace_of, sizes, table_rows, task_names
from benchmarks.training.stopwatch import Timed


def step(job: Job) -> dict[str, Any]:
    """Time ``fit`` on batches that lie in memory, in the place of its loader, at every batch size."""
    torch.set_num_threads(job["threads"])
    inputs, model = Inputs.read(job), make_model(job)
    rates = []
    for size in job["batch_sizes"]:
        batches = [(torch.stack(list(ids.values()), dim=1), labels) for ids, labels in inputs.batches(size)]
        timed = Timed(batches, pace_of(job))
        with loader_is(lambda timed=timed, **_: timed):
            fit(model, inputs, rows=size, batch_size=size)
        rates.append(timed.measured(size))
    return {"rates": rates, **sizes(model)}


def epoch(job: Job) -> dict[str, Any]:
    """Time ``fit`` with its own loader, from Parquet files."""
    torch.set_num_threads(job["threads"])
    inputs, model = Inputs.read(job), make_model(job)
    (size,) = job["batch_sizes"]
    made: list[Timed[Any]] = []

    def timed_loader(**arguments: Any) -> Timed[Any]:
        made.append(Timed(DataLoader(**arguments), pace_of(job)))
        return made[-1]

    with loader_is(timed_loader):
        fit(model, inputs, rows=len(inputs.labels_NT), batch_size=size)
    return {"rates": [made[0].measured(size)], "read_s": inputs.seconds, **sizes(model)}


@contextmanager
def loader_is(make: Any) -> Iterator[None]:
    """Let ``fit`` take its batches from what ``make`` returns: so steps can be timed without touching the library."""
    own, basemodel.DataLoader = basemodel.DataLoader, make
    try:
        yield
    finally:
        basemodel.DataLoader = own


def fit(model: Any, inputs: Inputs, *, rows: int, batch_size: int) -> None:
    """Pass once over the first rows."""
    ids = {name: column[:rows] for name, column in inputs.ids.items()}
    model.fit(ids, inputs.labels_NT[:rows], batch_size=batch_size, epochs=1, verbose=0)


def make_model(job: Job) -> Any:
    """Build and compile the model."""
    dim = job["shape"]["dim"]
    fields = [SparseFeat(name, vocabulary_size=table_rows(job), embedding_dim=dim) for name in field_names(job)]
    experts, tasks = job["model"]["experts"], task_names(job)
    settings: dict[str, Any] = {
        "expert_dnn_hidden_units": experts["hidden"],
        "gate_dnn_hidden_units": (),
        "tower_dnn_hidden_units": job["model"]["heads"]["hidden"],
        "l2_reg_linear": 0,
        "l2_reg_embedding": 0,
        "task_types": ["binary"] * len(tasks),
        "task_names": tasks,
    }
    if experts["kind"] == "mmoe":
        model = MMOE(fields, num_experts=experts["num_experts"], **settings)
    else:
        counts = {"shared_expert_num": experts["shared_experts"], "specific_expert_num": experts["task_experts"]}
        model = PLE(fields, num_levels=experts["num_levels"], **counts, **settings)
    model.compile("adam", ["binary_crossentropy"] * len(tasks))
    return model


if __name__ == "__main__":
    answer({"step": step, "epoch": epoch})
