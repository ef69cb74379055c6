"""The traffic of a sharding plan: bytes that workers send each other in one step, by formula."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from recsys_mtl.training.footprint import TablePart

ID_BYTES, LENGTH_BYTES, FLOAT_BYTES = 8, 4, 4
"""Of an id, of the number of ids of a row and feature, and of a number of a vector or gradient."""

Bytes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Exchange:
    """Bytes (W, W) that each worker sends each other one in a step."""

    ids_WW: Bytes
    """To the workers that hold their rows, with the number of ids of each row."""
    vectors_WW: Bytes
    """Back, in the forward pass. The backward pass sends their gradients the other way."""

    @property
    def total(self) -> float:
        """Sum over all workers and both passes."""
        return float(self.ids_WW.sum() + 2 * self.vectors_WW.sum())


@dataclass(frozen=True)
class Sent:
    """What one worker sends in a step."""

    ids: float
    vectors: float
    gradients: float
    network: float
    """Of all of these, what leaves its machine."""


def exchange(
    parts: Sequence[TablePart], lookups: Mapping[str, Sequence[float]], *, rows: float, workers: int, node: int
) -> Exchange:
    """Count what the tables' parts make workers send.

    Args:
        lookups: By table, the mean number of ids per row of each feature that reads it.
        rows: Of one worker in a step.
        node: Workers that share a machine.
    """
    ids_WW, vectors_WW = np.zeros((workers, workers)), np.zeros((workers, workers))
    ordered = sorted(parts, key=lambda part: (part.table, part.first_column, part.worker))
    for (table, _), group in groupby(ordered, key=lambda part: (part.table, part.first_column)):
        owners = list(group)
        if owners[0].sharding == "data_parallel":
            continue
        for ids in lookups[table]:
            _add_ids(ids_WW, owners, ids, rows)
            _add_vectors(vectors_WW, owners, ids, rows, node)
    np.fill_diagonal(ids_WW, 0)
    np.fill_diagonal(vectors_WW, 0)
    return Exchange(ids_WW, vectors_WW)


def sent(exchange: Exchange, worker: int, node: int) -> Sent:
    """Sum up what one worker sends."""
    ids_W, vectors_W, gradients_W = exchange.ids_WW[worker], exchange.vectors_WW[worker], exchange.vectors_WW[:, worker]
    elsewhere_W = np.arange(len(ids_W)) // node != worker // node
    network = (ids_W + vectors_W + gradients_W)[elsewhere_W].sum()
    return Sent(float(ids_W.sum()), float(vectors_W.sum()), float(gradients_W.sum()), float(network))


def all_reduced(gradient: float, workers: int) -> float:
    """Return the bytes that each worker sends to sum gradients of so many bytes over all of them, in a ring."""
    return 2 * (workers - 1) / workers * gradient


def slowest(bytes_WW: Bytes, node: int, *, node_rate: float, network_rate: float) -> float:
    """Return the seconds of an exchange in which each worker sends and receives at these rates, bytes per second.

    The slowest worker's time: no latency, no queues, and both kinds of links at once.
    """
    places = np.arange(len(bytes_WW)) // node
    same_WW = places[:, None] == places[None, :]
    seconds = 0.0
    for part_WW, rate in ((bytes_WW * same_WW, node_rate), (bytes_WW * ~same_WW, network_rate)):
        seconds = max(seconds, part_WW.sum(0).max() / rate, part_WW.sum(1).max() / rate)
    return seconds


def _add_ids(ids_WW: Bytes, owners: Sequence[TablePart], ids: float, rows: float) -> None:
    """Every worker sends each owner the ids of its rows, taken to be spread evenly, and the numbers of ids."""
    whole = sum(owner.rows for owner in owners)
    for owner in owners:
        ids_WW[:, owner.worker] += rows * (ids * owner.rows / whole * ID_BYTES + LENGTH_BYTES)


def _add_vectors(vectors_WW: Bytes, owners: Sequence[TablePart], ids: float, rows: float, node: int) -> None:
    whole = sum(owner.rows for owner in owners)
    for owner in owners:
        vector = rows * owner.dim * FLOAT_BYTES
        if owner.kind == "events":
            vectors_WW[owner.worker] += vector * ids * owner.rows / whole
        elif owner.sharding in {"table_row_wise", "grid_shard"}:
            _add_sums_of_a_node(vectors_WW, owner.worker, vector, node)
        else:
            vectors_WW[owner.worker] += vector  # of rows split over workers: a partial sum from each of them


def _add_sums_of_a_node(vectors_WW: Bytes, worker: int, vector: float, node: int) -> None:
    """Workers of a machine first sum all workers' vectors among them, then each sends an equal share of the sums on."""
    workers = len(vectors_WW)
    first = worker // node * node
    vectors_WW[worker, first : first + node] += vector * (workers // node)
    away = np.arange(workers) % node == worker % node
    away[worker] = False
    vectors_WW[worker, away] += vector
