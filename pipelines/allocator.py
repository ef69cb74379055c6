"""Where training workers get memory from: jemalloc, told to keep what a step has freed for the next step."""

import os
from collections.abc import Mapping
from pathlib import Path

import ray

PRELOAD, CONF = "LD_PRELOAD", "MALLOC_CONF"
LIBRARY = Path(ray.__file__).parent / "core" / "libjemalloc.so"
"""Comes with Ray on Linux, for its own processes."""
KEEP = "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1,lg_extent_max_active_fit:48"
"""Large blocks are treated as all others, and what a step has freed is never given back, since the next step wants it.
With a decay of a minute, some of it was given back all the time: hundreds of thousands of pages in every step. What is
kept has to serve requests of any size: by default a block more than 64 times as large as a request is not cut for it,
so that small requests got new memory while large blocks lay idle, and a worker grew by a gigabyte in a minute."""


def allocator(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables to start a process with; none where a person has chosen an allocator.

    Activations come and go in blocks of megabytes. glibc gives every one of them back to the system and asks for it
    again in the next step, page by page, each filled with zeros first: a tenth to a fifth of a step's time on CPUs.
    On a node that has the library in another place, the process says so and goes on with glibc.
    """
    if PRELOAD in environment or CONF in environment or not LIBRARY.is_file():
        return {}
    return {PRELOAD: str(LIBRARY), CONF: KEEP}
