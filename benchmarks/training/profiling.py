"""Where a training step spends its time: torch's profiler over some steps."""

from typing import Any

from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiled

from benchmarks.training.exchange import Job
from benchmarks.training.session import alone, batches_of, program_of, training_step

WARM_UP = 3
SHOWN = 14


def profile(job: Job) -> dict[str, Any]:
    """Return the operations that take most of the time, each with its share and its calls in a step."""
    with alone(job["threads"]):
        program = program_of(job)
        step, batches = training_step(program), batches_of(program)
        for batch in batches[:WARM_UP]:
            step(batch)
        with profiled(activities=[ProfilerActivity.CPU]) as seen:
            for batch in batches:
                step(batch)
    events = [event for event in seen.key_averages() if event.self_cpu_time_total > 0]
    total = sum(event.self_cpu_time_total for event in events)
    events.sort(key=lambda event: event.self_cpu_time_total, reverse=True)
    shares = [[event.key, event.self_cpu_time_total / total, event.count / len(batches)] for event in events[:SHOWN]]
    return {"shares": shares, "ms": total / len(batches) / 1e3}
