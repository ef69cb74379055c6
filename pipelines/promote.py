"""Promotion: the champion alias moves to a version that is no worse for any objective."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from recsys_mtl.config import ConfigError
from recsys_mtl.registry import aliases, fetch, set_alias
from recsys_mtl.tracking import TrackingConfig

CHAMPION = "champion"
TOLERANCE = 0.002
"""Loss of AUC on the test split that is taken for noise."""


@dataclass(frozen=True)
class Verdict:
    """Whether a version may become champion, and the reasons."""

    promoted: bool
    reasons: tuple[str, ...]


def judge(candidate: Mapping[str, Any], champion: Mapping[str, Any], tolerance: float = TOLERANCE) -> Verdict:
    """Compare two versions on the test split: no objective of the champion may lose more than ``tolerance`` AUC."""
    reasons = []
    for task, old in champion.items():
        if "auc" not in old or old["auc"] is None:
            continue
        new = candidate.get(task, {}).get("auc")
        if new is None:
            reasons.append(f"{task}: the candidate has no AUC")
        elif new < old["auc"] - tolerance:
            reasons.append(
                f"{task}: AUC {new:.4f} against the champion's {old['auc']:.4f}, more than {tolerance} below"
            )
    return Verdict(not reasons, tuple(reasons))


def run(model: str, version: int, console: Console, *, tracking_uri: str | None = None, force: bool = False) -> Verdict:
    """Move the alias if the policy holds; print the verdict.

    Raises:
        ConfigError: no such model or version, or the two versions were tested on different data.
    """
    uri = tracking_uri or TrackingConfig().uri
    champion = aliases(uri, model).get(CHAMPION)
    if champion is None or force or champion == version:
        verdict = Verdict(True, ())
    else:
        verdict = judge(*_comparable(_read(model, version, uri), _read(model, champion, uri)))
    if verdict.promoted:
        set_alias(uri, model, alias=CHAMPION, version=version)
        console.print(f"{model} version {version} is {CHAMPION} now (before: {champion or 'none'})", highlight=False)
    else:
        console.print(
            f"{model} version {version} is not promoted; {CHAMPION} stays version {champion}", highlight=False
        )
    for reason in verdict.reasons:
        console.print(f"  {reason}", highlight=False)
    return verdict


def _read(model: str, version: int, uri: str) -> tuple[str, Mapping[str, Any]]:
    """Return the data fingerprint and the test metrics that a version's bundle holds."""
    with tempfile.TemporaryDirectory() as directory:
        bundle = fetch(f"models:/{model}/{version}", uri, into=Path(directory)).path
        metrics = json.loads((bundle / "metrics.json").read_text(encoding="utf-8"))
        return yaml.safe_load((bundle / "model.yaml").read_text(encoding="utf-8"))["fingerprint"], metrics["test"]


def _comparable(
    candidate: tuple[str, Mapping[str, Any]], champion: tuple[str, Mapping[str, Any]]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if candidate[0] != champion[0]:
        problem = f"--version: tested on data set {candidate[0]}, the champion on {champion[0]}"
        raise ConfigError([f"{problem}; --force promotes all the same"])
    return candidate[1], champion[1]
