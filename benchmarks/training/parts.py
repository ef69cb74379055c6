"""The parts of a training step beside what the machine can do: matrix products, memory, and evaluation."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.quality.flops import multiply_adds, random_features
from benchmarks.training.exchange import Job
from benchmarks.training.session import CPU, alone, batches_of, program_of, sizes, training_step
from benchmarks.training.turns import Work, in_turn
from pipelines.worker import WorkerProgram
from recsys_mtl.data.batch import Batch
from recsys_mtl.data.reader import EvalReader, Worker
from recsys_mtl.data.shards import row_groups
from recsys_mtl.data.spec import Spec
from recsys_mtl.embeddings import Embeddings, feature_layout
from recsys_mtl.health import RowSample
from recsys_mtl.training.evaluate import evaluate, examine
from recsys_mtl.training.step import TrainStep

GEMM_SIDE = 1024
FLOAT_BYTES, ID_BYTES = 4, 8
PASSES = 3
"""Products of a training step for each of a forward pass: the product itself, and one for each of its two gradients."""


def parts(job: Job) -> dict[str, Any]:
    """Time the parts of a step in turn with the machine's own limits; return what each call does, and its seconds."""
    with alone(job["threads"]):
        program = program_of(job)
        step, batches = training_step(program), batches_of(program)
        works: dict[str, Work] = {
            "gemm": gemm(torch.float32),
            "gemm bf16": gemm(torch.bfloat16),
            "dense": dense(program, batches[0]),
            **({"dense bf16": dense(program, batches[0], low=True)} if job["low"] else {}),
            "triad": triad(job["stream_floats"]),
            "tables": tables(step.model, batches[0]),
            "optimiser": standing_still(step.optimizer),
            "step": lambda: step(batches[0]),
            **evaluation(program, step),
        }
        step(batches[0])  # the optimiser needs gradients
        seconds = in_turn(works, turns=job["turns"], seconds=job["seconds"])
        rows = len(batches[0])
        amounts = {
            "gemm": 2 * GEMM_SIDE**3,
            "gemm bf16": 2 * GEMM_SIDE**3,
            "dense": dense_flops(program, rows),
            "triad": 3 * FLOAT_BYTES * job["stream_floats"],
            "tables": table_bytes(batches[0], program.spec),
        }
        return {"seconds": seconds, "amounts": amounts, "rows": rows, **sizes(program)}


def gemm(dtype: torch.dtype) -> Work:
    """Multiply two square matrices."""
    a, b, c = (torch.randn(GEMM_SIDE, GEMM_SIDE).to(dtype) for _ in range(3))
    return lambda: torch.mm(a, b, out=c)


def triad(floats: int) -> Work:
    """Do what STREAM calls a triad, on arrays much larger than the caches."""
    a, b, c = (torch.ones(floats) for _ in range(3))
    return lambda: torch.add(b, c, alpha=2.0, out=a)


def dense(program: WorkerProgram, batch: Batch, *, low: bool = False) -> Work:
    """Pass forward and backward through everything above the tables, up to the inputs' gradients."""
    layout = feature_layout(program.spec)
    ranker = program.run.model.build_ranker(layout, program.tasks)
    ranker.learns_in_bfloat16 = low
    objective, features = program.objective(), random_features(len(batch), layout)
    events = tuple(e_BLD.requires_grad_() for e_BLD in features.sequences)
    features = replace(features, fields_BX=features.fields_BX.requires_grad_(), sequences=events)

    def work() -> None:
        forget_gradients(ranker, features.fields_BX, *events)
        loss = objective.combine(*objective(ranker(features), batch.labels_BT, batch.weights_B))
        loss.backward()  # type: ignore[no-untyped-call]

    return work


def forget_gradients(ranker: nn.Module, *inputs: Tensor) -> None:
    """Leave no gradients of the last call."""
    ranker.zero_grad(set_to_none=True)
    for x in inputs:
        x.grad = None


def dense_flops(program: WorkerProgram, rows: int) -> int:
    """Count the operations of the matrix products of `dense`."""
    layout = feature_layout(program.spec)
    ranker = program.run.model.build_ranker(layout, program.tasks)
    return 2 * PASSES * multiply_adds(ranker, random_features(rows, layout))


def tables(model: nn.Module, batch: Batch) -> Work:
    """Look a batch up and update its rows: forward and backward pass of the tables alone."""
    embeddings = next(module for module in model.modules() if isinstance(module, Embeddings))

    def work() -> None:
        features = embeddings(batch)
        parts = [features.fields_BX, *features.sequences]
        torch.autograd.backward(parts, [torch.ones_like(part) for part in parts])

    return work


def table_bytes(batch: Batch, spec: Spec) -> int:
    """Count the bytes that a step has to move for its tables, however it is programmed.

    For each look-up its id, a row read, its copy written and its gradient read; for each distinct row, which is updated
    once, the row and its moment read and written.
    """
    dims = {spec.table(name).dim for name in spec.rows}
    assert len(dims) == 1, dims  # generated data have one width
    row = FLOAT_BYTES * dims.pop()
    total = 0
    for jagged in (batch.pooled, batch.events):
        for key in jagged.keys():  # noqa: SIM118  a tensor by key, no mapping
            ids = jagged[key].values()
            total += ids.numel() * (ID_BYTES + 3 * row) + ids.unique().numel() * 2 * (row + FLOAT_BYTES)
    return total


def standing_still(optimizer: Optimizer) -> Work:
    """Update all weights by nothing: the same gradient again and again leads to where numbers are denormal."""
    rates = [group["lr"] for group in optimizer.param_groups]

    def work() -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    return work


def evaluation(program: WorkerProgram, step: TrainStep) -> dict[str, Work]:
    """Evaluate held-out rows in memory, with and without the experts' health, beside training's forward pass."""
    groups, size = row_groups(program.data, "valid"), program.run.trainer.batch_size
    batches = list(EvalReader(groups, program.layout, batch_size=size, worker=Worker()))
    model, tasks, rows = step.model, program.tasks, sum(len(batch) for batch in batches)
    sample = RowSample(program.run.health.gradient_rows, rows, 0)

    def forward() -> None:
        for batch in batches:
            model(batch)

    return {
        "forward": forward,
        "evaluate": lambda: evaluate(model, batches, tasks, CPU),
        "examine": lambda: examine(model, batches, tasks, CPU, sample=sample),
    }
