"""Boosted trees on the inputs of the neural models: the reference that a ranking model has to beat.

scikit-learn's HistGradientBoosting, one per task, on the same encoded columns and splits. Ids enter as ordinal numbers,
in the order of their frequency; a bag enters as its first id, a sequence as its length and as the number of its events
that share each table's id with the candidate, which is what a tree can use of it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.labels import GROUP, label_name
from recsys_mtl.data.schema import SequenceFeature, target_of
from recsys_mtl.data.spec import Spec
from recsys_mtl.data.values import single_array
from recsys_mtl.metrics.bank import MetricBank
from recsys_mtl.storage import Place, locate
from recsys_mtl.tasks import RegressionTask, Task

Floats = npt.NDArray[np.float32]


def tree_metrics(data: Place, tasks: tuple[str, ...], seed: int) -> dict[str, dict[str, float]]:
    """Fit one model per task on train, with early stopping on a tenth of it; return metrics of the test split."""
    spec = Encoder.load(data).spec
    chosen = tuple(task for task in spec.tasks if task.name in tasks)
    train, test = read_split(data, "train"), read_split(data, "test")
    inputs, held_out = matrix(train, spec), matrix(test, spec)
    columns = [fit_predict(task, inputs, labels(train, task), held_out, seed) for task in chosen]
    bank = MetricBank(chosen)
    known = torch.from_numpy(np.stack([labels(test, task) for task in chosen], 1))
    bank.update(torch.from_numpy(np.stack(columns, 1)), known, torch.from_numpy(test[GROUP].to_numpy().copy()))
    return bank.compute()


def fit_predict(task: Task, inputs: Floats, labels_N: Floats, held_out: Floats, seed: int) -> Floats:
    """Return the logits of an event, or amounts in their natural unit, for the held-out rows."""
    known = np.isfinite(labels_N)
    settings = {"max_iter": 300, "learning_rate": 0.1, "min_samples_leaf": 50}
    settings |= {"early_stopping": True, "validation_fraction": 0.1, "n_iter_no_change": 20, "random_state": seed}
    if isinstance(task, RegressionTask):
        amounts = labels_N[known] if task.upper is None else labels_N[known].clip(max=task.upper)
        trees = HistGradientBoostingRegressor(**settings).fit(inputs[known], np.log1p(amounts))
        return np.asarray(np.expm1(trees.predict(held_out)), dtype=np.float32)
    trees = HistGradientBoostingClassifier(**settings).fit(inputs[known], labels_N[known])
    return np.asarray(trees.decision_function(held_out), dtype=np.float32)


def read_split(data: Place, split: str) -> pa.Table:
    """Read a whole split in its stored order."""
    directory = locate(data) / split
    files = [file.path for file in directory.children("*.parquet")]
    return ds.dataset(files, filesystem=directory.filesystem).to_table()


def labels(table: pa.Table, task: Task) -> Floats:
    """Labels of a task, NaN where unknown."""
    values = single_array(table[label_name(task.name)]).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float32)


def matrix(table: pa.Table, spec: Spec) -> Floats:
    """Lay the encoded columns side by side as trees can read them."""
    columns: list[npt.NDArray[np.generic]] = []
    for feature in spec.features:
        if isinstance(feature, SequenceFeature):
            columns.append(lengths(single_array(table[feature.columns[0].name])))
            targets = ((column.name, target_of(column, spec)) for column in feature.columns)
            columns += [matches(table, name, target) for name, target in targets if target is not None]
        else:
            column = single_array(table[feature.name])
            columns.append(first_of(column) if pa.types.is_list(column.type) else column.to_numpy())
    return np.stack([column.astype(np.float32) for column in columns], axis=1)


def matches(table: pa.Table, sequence: str, target: str) -> npt.NDArray[np.generic]:
    """Count the events of a sequence whose id is the candidate's."""
    events, own = single_array(table[sequence]), single_array(table[target])
    wanted = first_of(own) if pa.types.is_list(own.type) else own.to_numpy()
    num_events = lengths(events)
    same = pc.list_flatten(events).to_numpy() == np.repeat(wanted, num_events)
    rows = np.repeat(np.arange(len(num_events)), num_events)
    return np.bincount(rows[same], minlength=len(num_events))


def first_of(column: "pa.Array[Any]") -> npt.NDArray[np.int32]:
    """First id of every bag, 0 where it is empty."""
    counts = lengths(column)
    values = np.append(pc.list_flatten(column).to_numpy(), 0)
    starts = np.cumsum(counts) - counts
    return np.where(counts > 0, values[starts], 0)


def lengths(column: "pa.Array[Any]") -> npt.NDArray[np.int64]:
    """Number of values of every list."""
    return np.asarray(pc.list_value_length(column).to_numpy(zero_copy_only=False), dtype=np.int64)
