"""The pinned sets of requirements/, and what of them belongs together."""

from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[1] / "requirements"


def pins(file: str) -> dict[str, str]:
    """The releases that a file pins, by name."""
    lines = [Requirement(line) for line in (REQUIREMENTS / file).read_text().splitlines() if "==" in line.split("#")[0]]
    return {str(canonicalize_name(line.name)): str(line.specifier) for line in lines}


def closure(lines: Iterable[str]) -> set[str]:
    """Packages that requirements ask for, and what those ask for, as it is installed here; fbgemm is chosen apart."""
    found: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(line) for line in lines]
    while todo:
        wanted = todo.pop()
        key = str(canonicalize_name(wanted.name)), frozenset(wanted.extras)
        if key in found or key[0].startswith("fbgemm-gpu"):
            continue
        found.add(key)
        for needed in map(Requirement, requires(key[0]) or []):
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted.extras or {""}):
                todo.append(needed)
    return {name for name, _ in found}


def modules_of(packages: Iterable[str]) -> set[str]:
    """Top-level modules that only these packages have."""
    wanted = set(packages)
    return {
        module
        for module, names in packages_distributions().items()
        if {str(canonicalize_name(name)) for name in names} <= wanted
    }
