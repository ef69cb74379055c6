"""How a measurement runs in a process of its own: a job as JSON on its command line, its result as a file.

Peers run this, too, in an environment of their own: nothing but Python is imported.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Job = dict[str, Any]


def answer(measures: Mapping[str, Callable[[Job], dict[str, Any]]]) -> None:
    """Be such a process: measure what the job's ``kind`` says and write the result, with the most memory it took."""
    job, out = json.loads(sys.argv[1]), Path(sys.argv[2])
    result = measures[job["kind"]](job)
    out.write_text(json.dumps(result | {"peak_bytes": peak_bytes()}), encoding="utf-8")


def peak_bytes() -> int:
    """Return the most memory that this process has had so far (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    assert found is not None, status
    return 1024 * int(found[1])
