"""The report of a soak."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.results import plain
from benchmarks.soak.judgement import STEADY, Observed, Verdict, memory, traffic
from benchmarks.text import machine, markdown_table, number

TRAFFIC = ["phase", "s", "requests", "p50 ms", "p99 ms", "max ms", "p99 / steady", "failed", "lost", "refused events"]
MEMORY = ["phase", "PSS MiB", "RSS MiB", "MiB per minute", "open files", "threads"]
VERDICTS = ["promise", "found", "kept"]


def as_markdown(observed: Observed, verdicts: Sequence[Verdict], command: str) -> str:
    """Lay out what was seen, for people."""
    facts = "\n".join(f"- {name}: {value}" for name, value in observed.facts.items())
    failures = sorted({record.failure for record in observed.records if record.failure})
    parts = [machine(), f"    {command}", facts, table_of(verdicts), traffic_table(observed), memory_table(observed)]
    if failures:
        parts.append("What failed requests were told:\n\n" + "\n".join(f"- `{text}`" for text in failures[:20]))
    return "\n\n".join(parts) + "\n"


def table_of(verdicts: Sequence[Verdict]) -> str:
    """Lay out what was promised."""
    return markdown_table(VERDICTS, [[one.promise, one.found, "yes" if one.is_kept else "**no**"] for one in verdicts])


def traffic_table(observed: Observed) -> str:
    """Lay out what clients saw."""
    found = traffic(observed)
    steady = next((one.p99_ms for one in found if one.phase == STEADY), float("nan"))
    rows = []
    for one, phase in zip(found, observed.phases, strict=True):
        kinds = ", ".join(f"{count} {kind}" for kind, count in one.failures.items()) or "0"
        times = [number(time, 1) for time in (one.p50_ms, one.p99_ms, one.max_ms)]
        counts = [kinds, str(one.lost), str(one.refused_events)]
        seconds = number(phase.end - phase.start, 0)
        rows.append([one.phase, seconds, f"{one.requests:,}", *times, number(one.p99_ms / steady, 2), *counts])
    return markdown_table(TRAFFIC, rows)


def memory_table(observed: Observed) -> str:
    """Lay out what the service's processes took."""
    rows = [
        [
            one.phase,
            number(one.pss, 0),
            number(one.rss, 0),
            number(one.slope, 1),
            *(number(count, 0) for count in (one.files, one.threads)),
        ]
        for one in memory(observed)
    ]
    return markdown_table(MEMORY, rows)


def as_json(observed: Observed, verdicts: Sequence[Verdict]) -> str:
    """Write what was seen, for programs; the requests are in a file of their own."""
    tree = {
        "facts": observed.facts,
        "verdicts": [asdict(one) for one in verdicts],
        "traffic": [asdict(one) for one in traffic(observed)],
        "memory": [asdict(one) for one in memory(observed)],
        "phases": [asdict(one) for one in observed.phases],
        "swaps": [asdict(one) for one in observed.swaps],
        "killed": [{"at": one.at, "ports": sorted(one.ports), "seconds": one.seconds} for one in observed.killed],
        "samples": [asdict(one) for one in observed.samples],
    }
    return json.dumps(plain(tree), indent=2, allow_nan=False)
