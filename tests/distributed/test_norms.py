"""Batch normalisation over two workers equals that of one process with all rows, however the rows are spread."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.data.reader import Worker
from recsys_mtl.norms import BatchNorm
from recsys_mtl.training.step import all_sum, world_size
from tests.distributed.processes import run_workers

ROWS, UNITS, STEPS = 12, 5, 3
SPLITS = (6, 11, 0)
"""Rows of the first worker: even, uneven, none."""
Outputs = dict[str, list[Tensor]]


def every_split(worker: Worker) -> list[Outputs]:
    """Learn from each split of the rows; processes are too dear to start for each."""
    return [learn(slice(0, first) if worker.rank == 0 else slice(first, ROWS)) for first in SPLITS]


def learn(mine: slice) -> Outputs:
    """Take a few steps as a training step does: divide by everybody's rows, then average gradients over workers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(UNITS, UNITS), BatchNorm(UNITS, momentum=0.2, eps=1e-3))
    outputs: Outputs = {"outputs": [], "gradients": [], "statistics": []}
    for _ in range(STEPS):
        x_BJ, slope_BJ = 3 + torch.randn(ROWS, UNITS), torch.randn(ROWS, UNITS)
        y_BJ = model(x_BJ[mine])
        divisor = all_sum(torch.tensor(float(len(y_BJ))))
        loss = (y_BJ * slope_BJ[mine]).sum() / divisor * world_size()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        outputs["outputs"].append(y_BJ.detach())
        outputs["gradients"] += [all_sum(gradient.clone()) / world_size() for gradient in gradients]
        outputs["statistics"] += [buffer.clone() for buffer in model.buffers()]
    return outputs


@pytest.mark.dist
def test_two_workers_normalise_as_one_process_does(tmp_path: Path) -> None:
    alone = learn(slice(0, ROWS))
    for rows, first, second in zip(SPLITS, *run_workers(2, tmp_path, every_split), strict=True):
        assert len(first["outputs"][0]) == rows
        together = [torch.cat(parts) for parts in zip(first["outputs"], second["outputs"], strict=True)]
        torch.testing.assert_close(together, alone["outputs"])
        for name in ("gradients", "statistics"):
            torch.testing.assert_close(first[name], alone[name])
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
