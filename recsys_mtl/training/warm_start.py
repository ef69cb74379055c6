"""Warm start: a run that begins with the weights, and with what the optimisers remember, of an earlier model.

Rows of a table belong to values, not to numbers: each row comes from the row that its value had before. A new value
begins as a copy of the unknown row, which is what the earlier model took it for, so that nothing changes before the
first step. Every worker reads the rows that it holds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from recsys_mtl.config import ConfigError
from recsys_mtl.data.feature_kinds import FIRST_ID, MISSING_ID, UNKNOWN_ID
from recsys_mtl.data.growth import Fitted
from recsys_mtl.training.moments import DENSE, TABLES, file_key
from recsys_mtl.training.optim import SparseConfig
from recsys_mtl.training.sharding import local_parts
from recsys_mtl.training.state import put_back, training_state
from recsys_mtl.training.step import TrainStep

RowSources = npt.NDArray[np.int64]
"""For every row of a table, the row of the earlier one that it comes from; for new values the unknown row."""

BLOCK_ROWS = 262_144
"""Rows that are read at a time."""


def row_sources(old: Fitted, new: Fitted) -> dict[str, RowSources]:
    """Match the rows of every table that has a vocabulary by their values."""
    sources = {}
    for table, values in new.vocabularies.items():
        index = {value: row for row, value in enumerate(old.vocabularies.get(table, []), FIRST_ID)}
        rows = [UNKNOWN_ID, MISSING_ID, *(index.get(value, UNKNOWN_ID) for value in values)]
        sources[table] = np.array(rows, np.int64)
    return sources


def new_values(sources: Mapping[str, RowSources]) -> int:
    """Count the values that the earlier model did not know."""
    return sum(int(_is_new(rows).sum()) for rows in sources.values())


def weight_differences(model: nn.Module, old: Fitted, weights: Path) -> list[str]:
    """List the weights of an unsharded model that the earlier one does not have, or has in another shape.

    Raises:
        ConfigError: the file cannot be read.
    """
    expected = {name: _before(name, tuple(weight.shape), old) for name, weight in model.state_dict().items()}
    return _differences(expected, _shapes(weights), "weight")


def moment_differences(model: nn.Module, old: Fitted, sparse: SparseConfig, moments: Path) -> list[str]:
    """List what this run's optimisers remember and the earlier ones did not, or in another shape.

    Raises:
        ConfigError: the file cannot be read.
    """
    expected: dict[str, tuple[int, ...]] = {}
    for name, parameter in model.named_parameters():
        shape = _before(name, tuple(parameter.shape), old)
        if _table(name) is None:
            expected |= {file_key(DENSE, name, moment): shape for moment in ("exp_avg", "exp_avg_sq")}
            expected[file_key(DENSE, name, "step")] = ()
        elif sparse.kind != "sgd":
            remembered = shape[:1] if sparse.kind == "rowwise_adagrad" else shape
            expected[file_key(TABLES, name, "momentum1")] = remembered
    return _differences(expected, _shapes(moments), "moment")


def begin_with(step: TrainStep, sources: Mapping[str, RowSources], *, weights: Path, moments: Path | None) -> None:
    """Fill a step's model, and its optimisers if there are ``moments``, from files whose shapes have been checked."""
    with torch.no_grad(), safe_open(weights, framework="pt") as file:
        for name, weight in step.model.state_dict().items():
            _fill(weight, file, name, sources.get(_table(name) or ""), new_rows="unknown")
    if moments is None:
        return
    state = training_state(step)
    with torch.no_grad(), safe_open(moments, framework="pt") as file:
        for part in (DENSE, TABLES):
            for name, remembered in state[part].items():
                for moment, value in remembered.items():
                    rows = sources.get(_table(name) or "")
                    _fill(value, file, file_key(part, name, moment), rows, new_rows="zero")
    put_back(step, state, 0)


def _fill(target: Any, file: Any, key: str, sources: RowSources | None, *, new_rows: str) -> None:
    """Fill what this worker holds of a tensor; ``sources`` say where the rows of a vocabulary's table come from."""
    for part, offsets in local_parts(target):
        if not offsets:
            part.copy_(file.get_tensor(key))
            continue
        stored, columns = file.get_slice(key), _columns(part, offsets)
        # Columns of a table on several workers have a row-wise moment each, which torchrec counts one behind the other.
        first = offsets[0] % (stored.get_shape()[0] if sources is None else len(sources))
        if sources is None:
            part.copy_(stored[(slice(first, first + len(part)), *columns)])
            continue
        for start in range(0, len(part), BLOCK_ROWS):
            block = part[start : start + BLOCK_ROWS]
            wanted = sources[first + start :][: len(block)]
            new = _is_new(sources)[first + start :][: len(block)]
            block.copy_(_rows(stored, wanted, new, columns, zero=new_rows == "zero"))


def _rows(
    stored: Any, wanted: RowSources, new: npt.NDArray[np.bool_], columns: tuple[slice, ...], *, zero: bool
) -> Tensor:
    """Read rows ``wanted`` of a stored table; those of new values are copies of the unknown row, or zeros."""
    unknown: Tensor = stored[(slice(UNKNOWN_ID, UNKNOWN_ID + 1), *columns)]
    rows = (torch.zeros_like(unknown) if zero else unknown).expand(len(wanted), *unknown.shape[1:]).clone()
    if (known := ~new).any():
        low, high = int(wanted[known].min()), int(wanted[known].max())
        found: Tensor = stored[(slice(low, high + 1), *columns)]
        rows[torch.from_numpy(known)] = found[torch.from_numpy(wanted[known] - low)]
    return rows


def _columns(part: Tensor, offsets: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(o, o + size) for o, size in zip(offsets[1:], part.shape[1:], strict=True))


def _is_new(sources: RowSources) -> npt.NDArray[np.bool_]:
    """Tell the rows of values that the earlier table did not have; the unknown row itself is none of them."""
    new: npt.NDArray[np.bool_] = (sources == UNKNOWN_ID) & (np.arange(len(sources)) != UNKNOWN_ID)
    return new


def _table(name: str) -> str | None:
    """Name the table whose weight this is; None for other weights."""
    return name.split(".")[-2] if ".embedding_bags." in name or ".embeddings." in name else None


def _before(name: str, shape: tuple[int, ...], old: Fitted) -> tuple[int, ...]:
    """Return the shape that a weight must have had: of a vocabulary's table, any number of rows that it knew."""
    table = _table(name)
    return (old.spec.rows[table], *shape[1:]) if table is not None and table in old.vocabularies else shape


def _differences(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], what: str) -> list[str]:
    problems = [f"{what} {name}: the earlier model has none" for name in expected if name not in found]
    problems += [f"{what} {name}: only the earlier model has it" for name in found if name not in expected]
    return problems + [
        f"{what} {name}: {list(found[name])} in the earlier model, {list(shape)} expected"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (OSError, SafetensorError) as error:
        raise ConfigError([f"{path}: {error}"]) from None
