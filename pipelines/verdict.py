"""A verdict on a version: the decision with all its numbers, as a table, as plain values and in a line."""

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.display import number
from pipelines.rules import Decision, Estimate, Finding
from recsys_mtl.health.report import ILLEGAL
from recsys_mtl.tracking.tables import plain

WORDS = {"promote": "promoted", "keep": "not promoted", "reject": "rejected"}
STYLES = {True: "", False: "yellow"}
MOST_SHOWN = 400
"""Letters of what broke a limit in a line; all of it is in the table."""


@dataclass(frozen=True)
class Verdict:
    """What is decided about a version of a model."""

    model: str
    version: int
    champion: int | None
    """Version that it was held against; None where there was none, or it was not looked at."""
    decision: Decision
    reason: str = ""
    """Why nothing was measured, if so."""
    findings: tuple[Finding, ...] = ()
    rows: int = 0
    users: int = 0
    data: tuple[str, ...] = ()
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def promoted(self) -> bool:
        """Whether the version is, or becomes, champion."""
        return self.decision == "promote"

    @property
    def line(self) -> str:
        """The whole in a line."""
        if self.reason:
            return f"{WORDS[self.decision]}: {self.reason}"
        first, *_ = self.findings
        failed = [_short(finding) for finding in self.findings if not finding.passes]
        why = "; ".join(failed or [_short(first)])[:MOST_SHOWN]
        rows = f"{self.rows:,} rows of {self.users:,} users"
        return f"{WORDS[self.decision]} against version {self.champion} on {rows}: {why}"

    def report(self) -> dict[str, Any]:
        """Return everything as plain values; null where a number is not defined."""
        findings = [_plain(finding) for finding in self.findings]
        return {**asdict(self), "findings": findings, "data": list(self.data), "line": self.line}

    def charts(self) -> dict[str, float]:
        """Return the numbers as a tracking store charts them; those that are not defined are left out."""
        named = {
            f"judge/{finding.rule}/{name}": value
            for finding in self.findings
            for name, value in {
                "champion": finding.champion, "candidate": finding.candidate, **finding.estimate._asdict()
            }.items()
        }  # fmt: skip
        return {re.sub(ILLEGAL, "_", name): value for name, value in named.items() if math.isfinite(value)}

    def show(self, console: Console) -> None:
        """Print the findings, if anything was measured, and the line."""
        if self.findings:
            console.print(self._table())
            for finding in self.findings:
                if finding.note:
                    console.print(f"{finding.rule}: {finding.note}", highlight=False, soft_wrap=True, markup=False)
        console.print(f"{self.model} version {self.version} {self.line}", highlight=False, soft_wrap=True, markup=False)

    def _table(self) -> Table:
        title = f"{self.model}: version {self.version} against the champion, version {self.champion}"
        table = Table(title=title, caption=f"{self.rows:,} rows of {self.users:,} users, the same for both")
        table.add_column("rule")
        for name in ("champion", "candidate", "measured", "interval", "limit"):
            table.add_column(name, justify="right")
        table.add_column("")
        for finding in self.findings:
            table.add_row(*_cells(finding), style=STYLES[finding.passes])
        return table


def _cells(finding: Finding) -> Iterator[str]:
    yield finding.rule
    yield from (number(value) for value in (finding.champion, finding.candidate))
    yield _signed(finding.estimate.value)
    yield _interval(finding.estimate)
    yield finding.limit
    yield "passes" if finding.passes else "harm" if finding.harm else "does not pass"


def _short(finding: Finding) -> str:
    ends = _interval(finding.estimate)
    return f"{finding.rule} {_signed(finding.estimate.value)}{'' if ends == '–' else ' ' + ends} ({finding.limit})"


def _interval(estimate: Estimate) -> str:
    return "–" if math.isnan(estimate.low) else f"[{_signed(estimate.low)}, {_signed(estimate.high)}]"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.4f}"


def _plain(finding: Finding) -> dict[str, Any]:
    numbers = finding.estimate._asdict()
    tree = {name: value for name, value in asdict(finding).items() if name != "estimate"} | numbers
    return {name: plain(value) for name, value in tree.items()}
