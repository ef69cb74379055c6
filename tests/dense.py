"""Features without tables: a small layout, random tensors that follow it, and what is in a configuration's union."""

from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, get_args, get_origin

import torch
from torch import Tensor

from recsys_mtl.config import Config
from recsys_mtl.features import FeatureLayout, Features, Field, Sequence, SequenceColumn
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task


def events(*names: str) -> tuple[Task, ...]:
    """Events of these names that have nothing to do with each other."""
    return tuple(BinaryTask(name=name) for name in names)


TASKS: tuple[Task, ...] = (
    BinaryTask(name="task0", group="watch"),
    BinaryTask(name="task1", group="watch", after="task0"),
    RegressionTask(name="task2", group="watch"),
    BinaryTask(name="task3", group="act"),
    BinaryTask(name="task4", group="act", after="task1"),
    BinaryTask(name="task5", group="act"),
    BinaryTask(name="task6", group="act", after="task0"),
)
"""Seven, which divides no width below: a parameter's axis belongs to tasks if and only if 7 divides its size."""

LAYOUT = FeatureLayout(
    fields=(
        Field("user", 5, "user"),
        Field("item", 4, "item"),
        Field("author", 6, "item"),
        Field("hour", 2, "context"),
    ),
    sequences=(
        Sequence("watched", (SequenceColumn(4, "item"), SequenceColumn(2, None), SequenceColumn(6, "author")), 6),
        Sequence("liked", (SequenceColumn(4, "item"),), 3),
    ),
    num_dense=3,
)


def features(rows: int, layout: FeatureLayout = LAYOUT, *, seed: int = 0) -> Features:
    """Random impressions; the first has no event in any sequence, the second has as many as there can be."""
    draws = torch.Generator().manual_seed(seed)
    lengths = [torch.randint(0, s.max_length + 1, (rows,), generator=draws) for s in layout.sequences]
    for sequence, length_B in zip(layout.sequences, lengths, strict=True):
        length_B[:2] = torch.tensor([0, sequence.max_length])[:rows]
    events = [torch.randn(rows, s.max_length, s.dim, generator=draws) for s in layout.sequences]
    return Features(
        fields_BX=torch.randn(rows, layout.fields_dim, generator=draws),
        dense_BC=torch.randn(rows, layout.num_dense, generator=draws),
        sequences=tuple(
            e_BLD[torch.arange(e_BLD.shape[1]) < length_B.unsqueeze(1)]
            for e_BLD, length_B in zip(events, lengths, strict=True)
        ),
        lengths=tuple(lengths),
    )


def histories(features: Features) -> list[list[Tensor]]:
    """Events (L, D) of each sequence's rows."""
    pairs = zip(features.sequences, features.lengths, strict=True)
    return [list(torch.split(e_ND, length_B.tolist())) for e_ND, length_B in pairs]


def with_histories(features: Features, histories: list[list[Tensor]]) -> Features:
    """Give rows other events."""
    return replace(
        features,
        sequences=tuple(torch.cat(rows) for rows in histories),
        lengths=tuple(torch.tensor([len(e_LD) for e_LD in rows]) for rows in histories),
    )


def flat(features: Features) -> tuple[Tensor, ...]:
    """All tensors of ``features`` in a row."""
    return features.fields_BX, features.dense_BC, *features.sequences, *features.lengths


def unflat(tensors: tuple[Tensor, ...], layout: FeatureLayout = LAYOUT) -> Features:
    """Undo `flat`."""
    split = 2 + len(layout.sequences)
    return Features(tensors[0], tensors[1], tensors[2:split], tensors[split:])


def members(union: Any) -> list[type[Config]]:
    """Classes that a configuration field can have: those of a union on ``kind``, or the one there is."""
    if isinstance(union, type):
        return [union]
    choices = get_args(union)[0] if get_origin(union) is Annotated else union
    return list(chain(get_args(choices) or (choices,)))
