"""Days that are as they should be, but for one whose labels belong to other rows."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipelines.daily_plan import dated
from recsys_mtl.data.labels import label_name


def spoil(days: Path, out: Path, *, number: int) -> None:
    """Copy prepared days to ``out``, and shuffle the labels of one of them there."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(days, out)
    bad = list(dated(out).values())[number - 1].local
    for split in ("train", "valid", "test"):
        for shard in sorted((bad / split).glob("*.parquet")):
            shuffle_labels(shard)


def shuffle_labels(shard: Path) -> None:
    """Give each row of a file the labels of another, all of them of the same one."""
    table = pq.read_table(shard)
    order = np.random.default_rng(0).permutation(table.num_rows)
    for place, name in enumerate(table.column_names):
        if name.startswith(label_name("")):
            table = table.set_column(place, name, table[name].take(order))
    pq.write_table(table, shard)
