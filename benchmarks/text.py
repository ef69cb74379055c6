"""How benchmarks write: numbers, tables, and the machine that the figures come from."""

import math
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table: names on the left, everything else on the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float, digits: int = 4) -> str:
    """Print a number; one that is not known is a dash."""
    return "–" if math.isnan(value) else f"{value:,.{digits}f}"


def signed(value: float, digits: int = 4) -> str:
    """Print a difference."""
    return "–" if math.isnan(value) else f"{value:+.{digits}f}"


def percent(value: float) -> str:
    """Print a share."""
    return "–" if math.isnan(value) else f"{value:.0%}"


def machine() -> str:
    """Say what the figures were measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchrec", "ray"))
    threads = f"{os.cpu_count()} processors ({processor()})"
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{threads}, {accelerator}; Python {platform.python_version()}, {packages}"


def processor() -> str:
    """Name the processor, as far as the system knows it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()
