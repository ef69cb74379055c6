"""Verdicts beside what they are about: tags and description of a version, tags and files of its run."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from pipelines.verdict import Verdict
from recsys_mtl.registry import annotate, describe, describe_version
from recsys_mtl.tracking import connect
from recsys_mtl.tracking.client import RunHandle

DECISION, LINE, AT, AGAINST = "policy.decision", "policy.verdict", "policy.at", "policy.champion"
"""Tags of a version, and of its run, with what was decided about it."""
NOTE = "policy: "
"""Line of a version's description that holds the verdict, behind the first one."""


def keep(verdict: Verdict, uri: str) -> None:
    """Put a verdict into the tags and the description of its version, and whole among its run's files.

    Raises:
        ConfigError: the registry cannot be reached.
    """
    against = str(verdict.champion or "none")
    note(verdict.model, verdict.version, verdict.decision, verdict.line, uri, {AGAINST: against})
    run_id = describe(f"models:/{verdict.model}/{verdict.version}", uri).run_id
    if run_id is not None:
        text = json.dumps(verdict.report(), indent=2)
        RunHandle(connect(uri), run_id).log_text(text, f"policy/against_{against}.json")


def note(model: str, version: int, decision: str, line: str, uri: str, more: Mapping[str, str] | None = None) -> None:
    """Put a decision into the tags of a version and of its run, and its line into the version's description.

    Raises:
        ConfigError: no such version, or the registry cannot be reached.
    """
    tags = {DECISION: decision, LINE: line, AT: datetime.now(UTC).isoformat(timespec="seconds"), **(more or {})}
    text, _ = describe_version(uri, model, version)
    lines = [each for each in text.splitlines() if not each.startswith(NOTE)]
    annotate(uri, model, version, tags=tags, description="\n".join([*lines[:1], NOTE + line, *lines[1:]]).strip())
    run_id = describe(f"models:/{model}/{version}", uri).run_id
    if run_id is not None:
        RunHandle(connect(uri), run_id).set_tags(tags)
