"""Moments: what the optimisers remember, whole and in one file, for a later run to go on with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from recsys_mtl.training.sharding import local_parts
from recsys_mtl.training.state import training_state
from recsys_mtl.training.step import TrainStep, rank

MOMENTS_FOLDER = "optimizer"
"""Where a run keeps the file among its files, beside the bundle, which serving loads."""
MOMENTS_FILE = "optimizer.safetensors"

DENSE, TABLES = "dense", "tables"
"""Parts of a training state that hold moments, by weight."""


def file_key(part: str, weight: str, moment: str) -> str:
    """Name a moment in the file; that of a table's carries the table's name, which the weight's has, too."""
    return f"{part}/{weight}/{moment.rpartition('.')[2]}"


def gather_moments(step: TrainStep) -> dict[str, Tensor]:
    """Bring all moments to the first worker, whole; elsewhere return nothing. A collective."""
    state = training_state(step)
    gathered = {
        file_key(DENSE, name, moment): value.detach().cpu()
        for name, moments in state[DENSE].items()
        for moment, value in moments.items()
    }
    # A worker knows only the tables that it holds a part of: names are those of the model, which all know.
    for name, weight in step.model.state_dict().items():
        pieces = _on_first(_pieces(state[TABLES].get(name, {})))
        if rank() == 0:
            wholes = _joined(pieces, rows=weight.shape[0] if weight.dim() else 1)
            gathered |= {file_key(TABLES, name, moment): whole for moment, whole in wholes.items()}
    return gathered if rank() == 0 else {}


def save_moments(moments: Mapping[str, Tensor], directory: Path) -> None:
    """Write the file that a later run begins with."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in moments.items()}, directory / MOMENTS_FILE)


Piece = tuple[str, tuple[int, ...], Tensor]
"""A moment's name, where the piece begins in the whole, and the piece."""


def _pieces(moments: Mapping[str, Any]) -> list[Piece]:
    return [
        (moment, offsets, part.detach().cpu())
        for moment, value in moments.items()
        for part, offsets in local_parts(value)
    ]


def _on_first(pieces: list[Piece]) -> list[Piece]:
    if not dist.is_initialized():
        return pieces
    everyones: list[list[Piece]] | None = [[]] * dist.get_world_size() if rank() == 0 else None
    dist.gather_object(pieces, everyones)
    return [piece for theirs in everyones or [] for piece in theirs]


def _joined(pieces: list[Piece], *, rows: int) -> dict[str, Tensor]:
    """Put pieces together, so that the whole does not show how a table was spread.

    Where a table's columns are on several workers, each has a row-wise moment of its own, the mean square over its
    columns, and torchrec counts their rows one behind the other. The mean of these is that over all columns.
    """
    wholes: dict[str, Tensor] = {}
    for moment in dict.fromkeys(moment for moment, _, _ in pieces):
        mine = [(offsets, part) for name, offsets, part in pieces if name == moment]
        ends = [[o + size for o, size in zip(offsets, part.shape, strict=True)] for offsets, part in mine]
        whole = torch.zeros([max(axis) for axis in zip(*ends, strict=True)], dtype=mine[0][1].dtype)
        for offsets, part in mine:
            whole[tuple(slice(o, o + size) for o, size in zip(offsets, part.shape, strict=True))] = part
        wholes[moment] = whole.view(-1, rows).mean(0) if whole.dim() == 1 else whole
    return wholes
