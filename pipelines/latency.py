"""How long champion and candidate take to score a request, in turn, so that what else the machine does hits both."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from pipelines.contenders import Contender
from pipelines.policy import LatencyLimit
from pipelines.rules import Estimate, Finding
from recsys_mtl.data.shards import RowGroup, read
from recsys_mtl.data.spec import Spec
from recsys_mtl.inference import Encoded, Engine, Side
from recsys_mtl.metrics.ranking import Floats

HEADS = 20
"""Users whose requests are timed, one after another."""
WARM_UP = 10
Request = tuple[Encoded, Encoded]


def latency_findings(limit: LatencyLimit, both: Sequence[Contender], groups: Sequence[RowGroup]) -> Iterator[Finding]:
    """Measure both models, and hold the candidate's median and 99th percentile against their limits."""
    requests = requests_of(both[0].bundle.encoder.spec, groups[-1], limit.candidates)
    times_MN = measured([Engine.of(contender.bundle) for contender in both], requests, limit.requests)
    for name, most in limit.limits.items():
        percentile, unit = name.split("_")
        champion, candidate = np.percentile(times_MN, float(percentile[1:]), axis=1).tolist()
        value = candidate if unit == "ms" else candidate / champion
        text = f"<= {most:g} ms" if unit == "ms" else f"<= {most:g} times"
        rule = f"{percentile} of {limit.candidates:,} candidates"
        yield Finding(rule, text, champion, candidate, Estimate(value), passes=value <= most, note="milliseconds")


def requests_of(spec: Spec, group: RowGroup, candidates: int) -> list[Request]:
    """Make requests of encoded rows: the user and context of one, the items of as many as are wanted."""
    head, items = Side.of(spec, candidates=False), Side.of(spec, candidates=True)
    table = read(group, [*head.names, *items.names])
    found = []
    for start in range(min(HEADS, table.num_rows)):
        chosen = table.take(np.arange(start, start + candidates) % table.num_rows)
        found.append((Encoded.of(table.slice(start, 1), head), Encoded.of(chosen, items)))
    return found


def measured(engines: Sequence[Engine], requests: Sequence[Request], times: int) -> Floats:
    """Time every engine in milliseconds (M, N), on one thread as a service's worker does."""
    found = np.empty((len(engines), times))
    with one_thread():
        for number in range(-WARM_UP, times):
            for engine, row in zip(engines, found, strict=True):
                started = time.perf_counter()
                engine.score(*requests[number % len(requests)])
                if number >= 0:
                    row[number] = 1000 * (time.perf_counter() - started)
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
