"""Cosines between the tasks' gradients at the representation, of models whose answer is known."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recsys_mtl.config import validate
from recsys_mtl.data.batch import Batch, BatchLayout, blank
from recsys_mtl.data.reader import EvalReader, Worker, batch_of
from recsys_mtl.data.shards import Stream, cut, row_groups
from recsys_mtl.data.spec import Spec
from recsys_mtl.health import HealthRecord, Recorder, RowSample, measure
from recsys_mtl.model import ModelConfig, RankingModel
from recsys_mtl.objectives.losses import LabelRules, task_losses
from recsys_mtl.training.evaluate import evaluate, examine
from tests import builders

ROWS = 120
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Spec]:
    path = tmp_path_factory.mktemp("health") / "data"
    return path, builders.prepared(path, rows=ROWS)


def build(spec: Spec, **parts: Any) -> RankingModel:
    torch.manual_seed(0)
    return validate(ModelConfig, builders.MODEL | parts).build(spec, spec.tasks)


def batches(path: Path, spec: Spec, size: int = 50, worker: Worker | None = None) -> EvalReader:
    layout = BatchLayout.of(spec, builders.TASKS)
    return EvalReader(row_groups(path, "valid"), layout, batch_size=size, worker=worker or Worker())


def record(model: RankingModel, spec: Spec, these: Any, sample: RowSample) -> HealthRecord:
    _, seen = examine(model, these, spec.tasks, CPU, sample=sample)
    return seen


def test_cosines_are_those_of_the_gradients_of_all_rows(data: tuple[Path, Spec]) -> None:
    path, spec = data
    model = build(spec)
    model.eval()
    seen = record(model, spec, batches(path, spec), RowSample(ROWS, ROWS))
    (batch,) = batches(path, spec, ROWS)
    x_BGR = model.ranker.bottom(model.embeddings(batch)).detach().requires_grad_()
    logits_BT = model.ranker.heads(model.ranker.experts(x_BGR))
    labels_BT = LabelRules(spec.tasks)(batch.labels_BT)
    known_BT = labels_BT.isfinite()
    losses_BT = task_losses(logits_BT, labels_BT.nan_to_num(), spec.tasks)
    means = [losses_BT[known_BT[:, t], t].mean() for t in range(len(spec.tasks))]
    gradients = [torch.autograd.grad(loss, x_BGR, retain_graph=True)[0].flatten() for loss in means]
    expected_TT = [[float(torch.cosine_similarity(a, b, dim=0)) for b in gradients] for a in gradients]
    assert seen.gradients.rows == ROWS
    torch.testing.assert_close(
        seen.gradients.cosine_TT, torch.tensor(expected_TT, dtype=torch.float64), rtol=1e-4, atol=1e-5
    )
    assert 0.001 < abs(expected_TT[0][2]) < 0.999


def relabelled(batch: Batch, columns: list[Tensor]) -> Batch:
    return Batch(batch.pooled, batch.events, batch.dense_BC, torch.stack(columns, 1), batch.weights_B, batch.groups_B)


def test_the_same_task_twice_agrees_and_its_opposite_does_not(data: tuple[Path, Spec]) -> None:
    path, spec = data
    click, like, _ = spec.tasks
    tasks = (click, like.model_copy(update={"space": None}))
    torch.manual_seed(0)
    model = validate(ModelConfig, builders.MODEL | {"experts": {"kind": "direct"}}).build(spec, tasks)
    with torch.no_grad():  # towers of equal weights, and logits of zero
        for weight in model.ranker.heads.parameters():
            first = weight.select(0 if weight.dim() == 2 else 1, 0).clone()
            weight.copy_(first.unsqueeze(0 if weight.dim() == 2 else 1).expand_as(weight))
        out: Any = model.ranker.heads.get_submodule("out")
        out.bias_KO.zero_()
    (batch,) = batches(path, spec, ROWS)
    label_B = batch.labels_BT[:, 0]

    def cosine(other_B: Tensor) -> float:
        _, seen = examine(model, [relabelled(batch, [label_B, other_B])], tasks, CPU, sample=RowSample(ROWS, ROWS))
        return measure(seen, {}).gradients.pairs["click", "like"]

    assert cosine(label_B) == pytest.approx(1, abs=1e-6)
    assert cosine(1 - label_B) < -0.9  # -1 where the logit is 0: of equal towers, one pulls up what one pushes down
    with torch.no_grad():
        out.weight_IKO *= 1e-6
    assert cosine(1 - label_B) == pytest.approx(-1, abs=1e-5)


def test_a_task_without_known_labels_has_no_gradient(data: tuple[Path, Spec]) -> None:
    path, spec = data
    (batch,) = batches(path, spec, ROWS)
    unknown_B = torch.full((ROWS,), math.nan)
    these = [relabelled(batch, [batch.labels_BT[:, 0], unknown_B, batch.labels_BT[:, 2]])]
    gradients = measure(record(build(spec), spec, these, RowSample(ROWS, ROWS)), {}).gradients
    assert list(gradients.pairs) == [("click", "watch")]


@pytest.mark.parametrize(("limit", "rows"), [(5, 5), (25, 24), (ROWS, ROWS)])  # every 24th, every fifth, all
def test_workers_and_batches_make_no_difference(data: tuple[Path, Spec], limit: int, rows: int) -> None:
    path, spec = data
    model = build(spec)
    whole = record(model, spec, batches(path, spec, ROWS), RowSample(limit, ROWS))
    first = ROWS // 2
    layout = BatchLayout.of(spec, builders.TASKS)

    def share(these: list[int]) -> Iterator[Batch]:
        (group,) = row_groups(path, "valid")
        stream = Stream(cut([group], these[0], these[-1] + 1), layout.columns)
        for start in range(0, len(these), 17):
            yield batch_of(stream.take(min(17, len(these) - start)), layout)
        yield blank(layout)  # the other workers have more batches

    mine = record(model, spec, share(list(range(first))), RowSample(limit, ROWS))
    theirs = record(model, spec, share(list(range(first, ROWS))), RowSample(limit, ROWS, first))
    mine.merge(theirs)
    for part, expected in zip(mine.parts, whole.parts, strict=True):
        for tensor, total in zip(part.state(), expected.state(), strict=True):
            torch.testing.assert_close(tensor, total, rtol=1e-4, atol=1e-5)
    assert whole.gradients.rows == rows
    assert [gate.rows for gate in mine.gates] == [ROWS] * 3


def test_looking_leaves_nothing_behind(data: tuple[Path, Spec]) -> None:
    path, spec = data
    model = build(spec)
    with Recorder(model, spec.tasks, RowSample(ROWS, ROWS)) as recorder:
        watched = evaluate(model, batches(path, spec), spec.tasks, CPU, recorder=recorder)
    plain = evaluate(model, batches(path, spec), spec.tasks, CPU)
    assert {t: v["rows"] for t, v in watched.compute().items()} == {t: v["rows"] for t, v in plain.compute().items()}
    assert watched.compute()["watch"] == pytest.approx(plain.compute()["watch"], nan_ok=True)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_no_sample_no_gradients(data: tuple[Path, Spec]) -> None:
    path, spec = data
    gradients = measure(record(build(spec), spec, batches(path, spec), RowSample(0, ROWS)), {}).gradients
    assert gradients.rows == 0
    assert gradients.pairs == {}


def test_weighted_rows_count_by_their_weight(data: tuple[Path, Spec]) -> None:
    path, spec = data
    model = build(spec)
    (batch,) = batches(path, spec, ROWS)
    twice = Batch(*batch.parts())
    twice.weights_B = 2 * batch.weights_B
    sample = RowSample(ROWS, ROWS)
    once_TT, twice_TT = (record(model, spec, [b], sample).gradients.state()[1] for b in (batch, twice))
    torch.testing.assert_close(twice_TT, 4 * once_TT, rtol=1e-5, atol=0)
