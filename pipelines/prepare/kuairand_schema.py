"""What KuaiRand's prepared columns mean: features, tables and tasks."""

from pipelines.prepare.kuairand_counters import COUNTED, WATCH_UPPER_S, counter_columns
from pipelines.prepare.kuairand_files import LABELS, USERS
from pipelines.prepare.kuairand_history import BEHAVIOURS, EVENT_COLUMNS, HistoryLengths
from recsys_mtl.data.schema import (
    Entity,
    Feature,
    IdFeature,
    IdsFeature,
    NumberFeature,
    Schema,
    SequenceColumn,
    SequenceFeature,
    Table,
)
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task

WATCH = ("is_click", "long_view")
"""Both mean in the single-column feed that the video was played long enough, so they go with watch time."""

AFTER = {"long_view": "is_click"}
"""What comes before what. 99.66 % of the long views are clicks; of the likes and the profile visits, 18 % and 7 % come
without one, so that these follow nothing."""

COMPLAINTS = ("is_hate",)
"""Of no value to the user: predicted, but not part of the default score."""

USER_NUMBERS = tuple(name for name, kind in USERS.items() if kind == "amount")
USER_IDS = tuple(name for name in USERS if name not in USER_NUMBERS)
VIDEO_IDS = ("video_id", "author_id", "tag", "music_id", "music_type", "video_type", "upload_type")
CONTEXT_IDS = ("tab", "hour", "weekday")

WIDE = ("user_id", "video_id", "author_id")
MIDDLE = ("tag", "tags", "music_id", "tab", "onehot_feat3", "onehot_feat7", "onehot_feat8")

DURATION_CUTS = (7.0, 11.0, 18.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0)
"""7 s and 18 s are where the definitions of is_click and long_view change."""
AGE_CUTS = (1.0, 3.0, 7.0, 14.0, 30.0)
"""Coarse on purpose: every video is from the same three days, so that finer cuts would tell the calendar day."""


def kuairand_schema(lengths: HistoryLengths) -> Schema:
    """Describe the columns that `prepare` hands over."""
    ids = {*USER_IDS, *VIDEO_IDS, *CONTEXT_IDS, "tags"}
    dims = {name: 16 if name in WIDE else 8 if name in MIDDLE else 4 for name in sorted(ids)}
    return Schema(
        features=(*user_features(), *video_features(), *context_features(), *sequences(lengths), *counter_features()),
        tasks=tasks(),
        tables={name: Table(dim=dim) for name, dim in dims.items()},
        group="user_id",
        item="video_id",
    )


def user_features() -> tuple[Feature, ...]:
    """Every official user feature, and the user."""
    numbers = (NumberFeature(name=name, entity="user", log1p=True, standardise=True) for name in USER_NUMBERS)
    return (*(IdFeature(name=name, entity="user") for name in USER_IDS), *numbers)


def video_features() -> tuple[Feature, ...]:
    """Every basic video feature that varies; duration counts as it is known before the video is shown."""
    return (
        *(IdFeature(name=name, entity="item") for name in VIDEO_IDS),
        IdsFeature(name="tags", entity="item", column="tag", separator=",", max_length=4, pooling="mean"),
        NumberFeature(name="duration", entity="item", boundaries=DURATION_CUTS),
        NumberFeature(
            name="duration_log", entity="item", column="duration", default=60.0, log1p=True, standardise=True
        ),
        NumberFeature(name="aspect", entity="item", default=1.78, standardise=True),
        NumberFeature(name="server_width", entity="item", default=720.0, log1p=True, standardise=True),
        NumberFeature(name="video_age_days", entity="item", boundaries=AGE_CUTS),
    )


def context_features() -> tuple[Feature, ...]:
    """Where in the app, and when, the impression happened."""
    return tuple(IdFeature(name=name, entity="context") for name in CONTEXT_IDS)


def sequences(lengths: HistoryLengths) -> tuple[Feature, ...]:
    """The user's behaviours; their videos, authors and tags read the candidate's tables."""
    return tuple(
        SequenceFeature(
            name=name,
            entity="user",
            columns=tuple(SequenceColumn(name=f"{name}_{column}", table=column) for column in EVENT_COLUMNS),
            max_length=getattr(lengths, name),
        )
        for name in BEHAVIOURS
    )


def counter_features() -> tuple[Feature, ...]:
    """Counts on a log scale; lifts as they are.

    A lift is centred on no evidence and has a scale of its own. Standardising would blow up those of rare feedback,
    which are almost always near 0: a small network's AUC of is_like fell from .878 to .857.
    """
    features: list[Feature] = []
    for entity in COUNTED:
        owner: Entity = "user" if entity == "user" else "item"
        for name in counter_columns(entity):
            count = not name.endswith("_lift")
            features.append(NumberFeature(name=name, entity=owner, log1p=count, standardise=count))
    return tuple(features)


def tasks() -> tuple[Task, ...]:
    """Eight binary signals and watch time, in two groups."""
    binary = (
        BinaryTask(
            name=label,
            group="watch" if label in WATCH else "interaction",
            value=label not in COMPLAINTS,
            after=AFTER.get(label),
        )
        for label in LABELS
    )
    return (*binary, RegressionTask(name="watch_time", group="watch", unit="s", upper=WATCH_UPPER_S))
