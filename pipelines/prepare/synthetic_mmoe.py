"""The generator of the MMoE paper: two regressions whose relation is set by one number (Ma et al., KDD 2018, §3.2)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.prepare.columns import column
from pipelines.prepare.synthetic_log import BLOCK_ROWS, LEAST_ROWS, refuse_below
from recsys_mtl.config import ConfigError
from recsys_mtl.data.raw import SPLITS, RawData
from recsys_mtl.data.schema import NumberFeature, Schema
from recsys_mtl.tasks import RegressionTask

Floats = npt.NDArray[np.float64]

INPUTS = 100
"""d, the width of the input."""
SINES = 10
"""m, the number of sines that bend the labels; the paper does not give it, PLE takes 10."""
SCALE = 1.0
"""c, the length of the weights."""
NOISE_DEVIATION = 0.1
"""The paper's noise has variance 0.01."""
GROUP_ROWS = 100
"""Rows in a group: the data has no users, but grouped metrics want some."""


@dataclass(frozen=True)
class TwoTasks:
    """What the labels are made of; of one seed's parts only the weights depend on the correlation."""

    weights_2D: Floats
    frequencies: Floats
    """α, the same for both tasks."""
    phases: Floats
    """β, the same for both tasks."""

    def labels(self, x_BD: Floats, noise_B2: Floats) -> Floats:
        """Return ``y_B2``: a linear part, a sum of sines of it, and noise."""
        linear_B2 = np.einsum("bd,td->bt", x_BD, self.weights_2D)
        labels_B2: Floats = linear_B2 + noise_B2
        for frequency, phase in zip(self.frequencies, self.phases, strict=True):
            labels_B2 += np.sin(frequency * linear_B2 + phase)
        return labels_B2


def draw_tasks(correlation: float, *, seed: int) -> TwoTasks:
    """Draw two weight vectors with cosine ``correlation`` and the sines they share."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    u_1, u_2 = np.linalg.qr(rng.standard_normal((INPUTS, 2))).Q.T
    weights = SCALE * np.stack([u_1, correlation * u_1 + np.sqrt(1 - correlation**2) * u_2])
    return TwoTasks(weights, rng.standard_normal(SINES), rng.standard_normal(SINES))


def prepare(rows: int, *, correlation: float, seed: int = 0) -> RawData:
    """Generate the paper's data: 100 dense inputs, two regression tasks, 80/10/10 splits.

    Raises:
        ConfigError: too few rows, a negative seed, or a correlation outside of -1 to 1.
    """
    refuse_below({"rows": LEAST_ROWS, "seed": 0}, rows=rows, seed=seed)
    if not -1 <= correlation <= 1:
        raise ConfigError([f"correlation: {correlation} is out of range, allowed: -1 to 1"])
    tasks = draw_tasks(correlation, seed=seed)
    edges = (0, rows * 8 // 10, rows * 9 // 10, rows)
    splits = {
        split: _tables(tasks, seed, number + 1, slice(edges[number], edges[number + 1]))
        for number, split in enumerate(SPLITS)
    }
    return RawData(schema(), splits)


def label_pearson(raw: RawData) -> float:
    """Return the realised correlation of the two labels; it grows with the cosine but is not equal to it."""
    parts = [table.select(["y1", "y2"]) for split in SPLITS for table in raw.splits[split]()]
    labels = pa.concat_tables(parts)
    return float(np.corrcoef(labels["y1"].to_numpy(), labels["y2"].to_numpy())[0, 1])


def schema() -> Schema:
    """Describe the paper's data."""
    return Schema(
        features=tuple(NumberFeature(name=f"x{i}", entity="item") for i in range(INPUTS)),
        tasks=tuple(RegressionTask(name=name, transform="identity", loss="mse") for name in ("y1", "y2")),
        group="group",
        item="example",
    )


def _tables(tasks: TwoTasks, seed: int, stream: int, rows: slice) -> Callable[[], Iterator[pa.Table]]:
    def start() -> Iterator[pa.Table]:
        for number, first in enumerate(range(rows.start, rows.stop, BLOCK_ROWS)):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, number)))
            yield _table(tasks, rng, np.arange(first, min(first + BLOCK_ROWS, rows.stop)))

    return start


def _table(tasks: TwoTasks, rng: np.random.Generator, examples: npt.NDArray[np.int64]) -> pa.Table:
    x_BD = rng.standard_normal((len(examples), INPUTS), dtype=np.float32)
    y_B2 = tasks.labels(x_BD.astype(np.float64), NOISE_DEVIATION * rng.standard_normal((len(examples), 2)))
    columns = {f"x{i}": column(x_B) for i, x_B in enumerate(np.ascontiguousarray(x_BD.T))}
    columns |= {"y1": column(y_B2[:, 0].astype(np.float32)), "y2": column(y_B2[:, 1].astype(np.float32))}
    return pa.table(columns | {"group": column(examples // GROUP_ROWS), "example": column(examples)})
