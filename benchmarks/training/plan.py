"""What is measured: every measurement by its part of the report, its case and the system that runs it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.training.exchange import Job
from benchmarks.training.models import COMPARED, KUAIRAND, MMOE, MODELS, SMALL, TOWERS
from benchmarks.training.shapes import Shape
from benchmarks.training.stopwatch import Pace

OURS, RAY_1, RAY_2, LOCAL = "recsys-mtl", "recsys-mtl, 1 worker", "recsys-mtl, 2 workers", "recsys-mtl, without Ray"
LOW = "recsys-mtl, bfloat16"
RECHUB, RECHUB_LOADERS, DEEPCTR = "torch-rechub", "torch-rechub, 2 loader processes", "deepctr-torch"
PEER_OF = {RECHUB: RECHUB, RECHUB_LOADERS: RECHUB, DEEPCTR: DEEPCTR}
"""Which library a system is, if it is a peer."""

GRID, OWN, FILES, KUAI, PARTS, READING, PROFILE, STARTUP, GROWTH, ROWS = (
    "grid", "own", "files", "kuairand", "parts", "reading", "profile", "startup", "growth", "rows",
)  # fmt: skip
ALL_PARTS = (GRID, FILES, PARTS, READING, GROWTH, OWN, KUAI, ROWS, STARTUP, PROFILE)
EVERY_ROUND = (GRID, FILES, GROWTH)
"""Parts that are repeated in every round; others repeat themselves in one process, or are there once."""
BATCH = 4096
LOADED = Pace(warm_up_steps=3, warm_up_s=1.0, fewest=4, seconds=6.0)
"""Pace where files are read: longer than what loaders have fetched ahead lasts."""


BFLOAT16: Job = {"settings": {"trainer": {"precision": "bfloat16"}}}


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    vocabularies: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    batch_sizes: tuple[int, ...] = (1024, 4096, 16384)
    compared: tuple[str, ...] = COMPARED
    own: tuple[str, ...] = ("HoME", "DTRN", "APEM")
    kuairand: tuple[str, ...] = tuple(KUAIRAND)
    kuairand_steps: int = 300
    file_rows: int = 2**18
    turns: int = 5
    turn_s: float = 0.4
    stream_floats: int = 2**27
    prepared_rows: int = 100_000
    rows: tuple[int, ...] = (1_000_000, 5_000_000, 20_000_000)
    curves: dict[str, tuple[int, ...]] = field(
        default_factory=lambda: {
            "experts": (2, 4, 8, 16, 32),
            "tasks": (1, 2, 4, 8, 16),
            "fields": (8, 26, 52, 104),
            "vocabulary": (1_000, 10_000, 100_000, 1_000_000),
            "history": (10, 50, 100, 200),
        }
    )


QUICK = Scale(
    vocabularies=(1_000, 100_000),
    batch_sizes=(4096,),
    compared=("MMoE",),
    own=("HoME",),
    kuairand=("HoME",),
    kuairand_steps=60,
    file_rows=2**17,
    turns=2,
    turn_s=0.2,
    stream_floats=2**25,
    prepared_rows=20_000,
    rows=(2**17, 2**19),
    curves={"experts": (4, 8), "vocabulary": (1_000, 100_000)},
)


@dataclass(frozen=True)
class Measurement:
    """One process that measures something."""

    part: str
    case: str
    """What systems are compared on."""
    system: str
    job: Job
    shape: Shape | None = None
    """Data that the job needs; none for real data, and for what needs no data."""
    repeat: int = 0

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.part}-{self.case}-{self.system}-{self.repeat}"

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides about its result but the machine."""
        shape = None if self.shape is None else asdict(self.shape)
        return {"job": self.job, "shape": shape, "system": self.system, "repeat": self.repeat}


@dataclass(frozen=True)
class Plan:
    """Which measurements there are, on so many threads."""

    scale: Scale
    threads: int
    parts: tuple[str, ...]
    peers: bool = True
    low: bool = False
    """Whether to measure ours in bfloat16, too, which not all processors have."""

    def __iter__(self) -> Iterator[Measurement]:
        """Yield one round of measurements; what is compared stands together."""
        for part in self.parts:
            yield from getattr(self, f"_{part}")()

    def _job(self, kind: str, model: dict[str, Any], *batch_sizes: int, **more: Any) -> Job:
        fields = {"kind": kind, "model": model, "batch_sizes": list(batch_sizes), "threads": self.threads}
        return fields | {"pace": asdict(Pace())} | more

    def _grid(self) -> Iterator[Measurement]:
        for vocabulary in self.scale.vocabularies:
            for model in self.scale.compared:
                shape, case = Shape(vocabulary=vocabulary), f"{model}, vocabulary {vocabulary:,}"
                job = self._job("step", MODELS[model], *self.scale.batch_sizes)
                jobs = {OURS: job} | ({LOW: job | BFLOAT16} if self.low else {})
                jobs |= {RECHUB: job, DEEPCTR: job} if self.peers else {}
                yield from (Measurement(GRID, case, system, job, shape) for system, job in jobs.items())

    def _own(self) -> Iterator[Measurement]:
        for vocabulary in self.scale.vocabularies:
            for model in self.scale.own:
                job = self._job("step", MODELS[model], *self.scale.batch_sizes)
                case = f"{model}, vocabulary {vocabulary:,}"
                yield Measurement(OWN, case, OURS, job, Shape(vocabulary=vocabulary))
                if self.low:
                    yield Measurement(OWN, case, LOW, job | BFLOAT16, Shape(vocabulary=vocabulary))

    def _files(self) -> Iterator[Measurement]:
        shape = Shape(rows=self.scale.file_rows)
        for model in self.scale.compared:
            first = model == self.scale.compared[0]
            step, epoch = (self._job(kind, MODELS[model], BATCH, pace=asdict(LOADED)) for kind in ("step", "epoch"))
            jobs = {OURS: step, RAY_1: epoch | {"kind": "train", "workers": 1}}
            if first:
                jobs[RAY_2] = epoch | {"kind": "train", "workers": 2, "threads": max(self.threads // 2, 1)}
                jobs[LOCAL] = epoch
            if self.peers:
                jobs |= {RECHUB: epoch | {"loaders": 0}, DEEPCTR: epoch}
                jobs |= {RECHUB_LOADERS: epoch | {"loaders": 2}} if first else {}
            yield from (Measurement(FILES, model, system, job, shape) for system, job in jobs.items())

    def _kuairand(self) -> Iterator[Measurement]:
        for model in self.scale.kuairand:
            job = self._job("step", {}, 1024, kuairand=model)
            yield Measurement(KUAI, model, OURS, job)
            if model in ("MMoE", "HoME"):
                steps = {"kind": "train", "workers": 2, "threads": 1, "steps": self.scale.kuairand_steps}
                yield Measurement(KUAI, model, RAY_2, job | steps)

    def _parts(self) -> Iterator[Measurement]:
        measured = {"turns": self.scale.turns, "seconds": self.scale.turn_s, "stream_floats": self.scale.stream_floats}
        cells = [(model, BATCH, 100_000) for model in (*self.scale.compared, *self.scale.own)]
        first = self.scale.compared[0]
        cells += [(first, size, 100_000) for size in self.scale.batch_sizes if size != BATCH]
        cells += [(first, BATCH, vocabulary) for vocabulary in self.scale.vocabularies if vocabulary != 100_000]
        for model, size, vocabulary in cells:
            case = f"{model}, batch {size:,}, vocabulary {vocabulary:,}"
            job = self._job("parts", MODELS[model], size, **measured)
            yield Measurement(PARTS, case, OURS, job | {"low": self.low}, Shape(vocabulary=vocabulary))

    def _reading(self) -> Iterator[Measurement]:
        measured = {"turns": self.scale.turns, "seconds": self.scale.turn_s, "prepared_rows": self.scale.prepared_rows}
        job, shape = self._job("reading", SMALL, BATCH, **measured), Shape(rows=self.scale.file_rows)
        yield Measurement(READING, "files", OURS, job, shape)

    def _profile(self) -> Iterator[Measurement]:
        for model in self.scale.compared:
            yield Measurement(PROFILE, model, OURS, self._job("profile", MODELS[model], BATCH), Shape())

    def _startup(self) -> Iterator[Measurement]:
        yield Measurement(STARTUP, "programs", OURS, {"kind": "startup", "turns": min(self.scale.turns, 3)})

    def _growth(self) -> Iterator[Measurement]:
        for curve, values in self.scale.curves.items():
            for value in values:
                shape, model, more = grown(curve, value)
                job = self._job("step", model, BATCH, **more)
                yield Measurement(GROWTH, f"{curve} {value}", OURS, job, shape)

    def _rows(self) -> Iterator[Measurement]:
        for rows in self.scale.rows:
            job = self._job("epoch", SMALL, BATCH)
            yield Measurement(ROWS, f"rows {rows}", OURS, job, Shape(rows=rows))


def grown(curve: str, value: int) -> tuple[Shape, dict[str, Any], dict[str, Any]]:
    """Return data, model and settings of a point: MMoE, where one thing has another size."""
    rows, experts, tasks = 8 * BATCH, MMOE["num_experts"], 4
    if curve == "experts":
        experts = value
    grows = {"fields": "fields", "vocabulary": "vocabulary", "history": "events"}.get(curve)
    sizes = {} if grows is None else {grows: value}
    shape = Shape(rows=rows, tasks=16 if curve == "tasks" else tasks, **sizes)
    more = {"settings": {"tasks": {"include": shape.task_names[:value]}}} if curve == "tasks" else {}
    return shape, {"experts": MMOE | {"num_experts": experts}, "heads": TOWERS}, more
