import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from recsys_mtl.metrics import MetricBank
from recsys_mtl.metrics.pairs import PairSample
from recsys_mtl.metrics.reduction import gather_rows, sum_over_workers_
from recsys_mtl.tasks import BinaryTask, RegressionTask

WORKERS = 2
ROWS = 1000
TASKS = (BinaryTask(name="click"), RegressionTask(name="watch"), BinaryTask(name="like"))
SPLITS = {"uneven": 300, "all on one": ROWS}


def world() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    predictions_BT = torch.randn(ROWS, 3, generator=generator)
    labels_BT = (torch.rand(ROWS, 3, generator=generator) < predictions_BT.sigmoid()).float()
    labels_BT[:, 1] = torch.rand(ROWS, generator=generator)
    labels_BT[torch.rand(ROWS, 3, generator=generator) < 0.2] = float("nan")
    return predictions_BT, labels_BT, torch.arange(ROWS) // 10


def bank(rows: slice) -> MetricBank:
    bank = MetricBank(TASKS, collect_groups=True, halves=True)
    bank.regression.samples = (PairSample(200),)  # fewer than rows: a sample must be drawn
    bank.update(*(column[rows] for column in world()))
    return bank


def halves(bank: MetricBank) -> list[list[list[float]]]:
    return [[column.tolist() for column in half] for half in bank.half_counts("like")]


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS)
    results = {}
    for name, edge in SPLITS.items():
        part = bank(slice(0, edge) if rank == 0 else slice(edge, ROWS))
        part.reduce_()
        groups = part.group_scores("click")
        results[name] = {"metrics": part.compute(), "groups": [column.tolist() for column in groups]}
        results[name]["halves"] = halves(part)
    tensors = [torch.full((2,), rank + 1.0), torch.tensor([[rank]]), torch.tensor([5.0])]
    sum_over_workers_(tensors)
    results["sums"] = {"tensors": [tensor.tolist() for tensor in tensors]}
    results["gathered"] = {"rows": gather_rows(torch.full((3 * rank, 2), rank)).tolist()}
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


@pytest.mark.dist
def test_two_workers_report_what_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    spawn(work, args=(tmp_path,), nprocs=WORKERS)  # type: ignore[no-untyped-call]
    alone = bank(slice(None))
    expected, groups = alone.compute(), [column.tolist() for column in alone.group_scores("click")]
    for rank in range(WORKERS):
        results = json.loads((tmp_path / f"{rank}.json").read_text())
        for name in SPLITS:
            for task, metrics in expected.items():
                assert results[name]["metrics"][task] == pytest.approx(metrics, rel=1e-9)
            assert results[name]["groups"] == groups
            assert results[name]["halves"] == halves(alone)
        assert results["sums"]["tensors"] == [[3.0, 3.0], [[1]], [10.0]]
        assert results["gathered"]["rows"] == [[1, 1]] * 3


def test_one_process_keeps_what_it_has() -> None:
    tensors = [torch.ones(2), torch.ones(1, dtype=torch.int64)]
    sum_over_workers_(tensors)
    assert [tensor.tolist() for tensor in tensors] == [[1.0, 1.0], [1]]
    assert gather_rows(torch.arange(3)).tolist() == [0, 1, 2]
