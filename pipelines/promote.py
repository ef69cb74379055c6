"""Promotion: the champion alias moves to a version that the policy finds better."""

import json
from pathlib import Path

from rich.console import Console

from pipelines.contenders import Contender, data_of, load_all
from pipelines.judging import judge
from pipelines.judging_rows import Rows
from pipelines.notes import keep
from pipelines.policy import Policy
from pipelines.unseen import require_unseen
from pipelines.verdict import Verdict
from recsys_mtl.registry import aliases, describe, set_alias
from recsys_mtl.storage import Place
from recsys_mtl.tracking import TrackingConfig

CHAMPION = "champion"


def run(
    model: str,
    version: int,
    console: Console,
    *,
    policy: Policy | None = None,
    data: Place | None = None,
    split: str = "test",
    tracking_uri: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    json_file: Path | None = None,
) -> Verdict:
    """Judge a version, keep the verdict with it, and move the alias if the policy holds.

    Args:
        data: Prepared data set to judge on; the one that the version was trained on by default.
        force: Promote without judging.
        dry_run: Judge and print, and leave everything as it is.

    Raises:
        ConfigError: no such model or version, or no data that both versions can be judged on.
    """
    uri = tracking_uri or TrackingConfig().uri
    describe(f"models:/{model}/{version}", uri)
    champion = aliases(uri, model).get(CHAMPION)
    if (verdict := beforehand(model, version, champion, force=force)) is None:
        assert champion is not None
        contenders = opponents(model, champion, version, uri)
        place = data_of(contenders[1], data)
        require_unseen(contenders, place, split)
        verdict = judged(model, contenders, Rows(((place, split),)), policy or Policy(), console)
    verdict.show(console)
    if json_file is not None:
        json_file.write_text(json.dumps(verdict.report(), indent=2), encoding="utf-8")
    if dry_run:
        console.print("dry run: nothing was changed", highlight=False)
    else:
        settle(verdict, uri, console)
    return verdict


def beforehand(model: str, version: int, champion: int | None, *, force: bool = False) -> Verdict | None:
    """Decide where there is nothing to judge; None where there is."""
    if champion == version:
        return Verdict(model, version, champion, "promote", "it is champion already")
    if champion is None:
        return Verdict(model, version, None, "promote", "there is no champion yet")
    return Verdict(model, version, champion, "promote", "without judging, as asked for") if force else None


def opponents(model: str, champion: int, version: int, uri: str) -> list[Contender]:
    """Load champion and candidate.

    Raises:
        ConfigError: a version's bundle is not there or not whole.
    """
    return load_all([f"models:/{model}/{number}" for number in (champion, version)], uri)


def judged(model: str, contenders: list[Contender], rows: Rows, policy: Policy, console: Console) -> Verdict:
    """Judge a candidate against the champion.

    Raises:
        ConfigError: rows that are not prepared as theirs, or a policy about what the models do not have.
    """
    champion, candidate = contenders
    found = judge(champion, candidate, rows, policy, console)
    before, version = champion.place.version, candidate.place.version
    assert version is not None
    return Verdict(
        model, version, before, found.decision, "", found.findings, found.rows, found.users, tuple(rows.names),
        policy.model_dump(mode="json"),
    )  # fmt: skip


def settle(verdict: Verdict, uri: str, console: Console) -> None:
    """Keep a verdict with its version, then move the alias: who is stopped in between judges again.

    Raises:
        ConfigError: the registry cannot be reached.
    """
    model, version = verdict.model, verdict.version
    if verdict.champion == version:
        return
    keep(verdict, uri)
    if not verdict.promoted:
        stays = f"{CHAMPION} stays version {verdict.champion}"
        console.print(f"{model} version {version} is not promoted; {stays}", highlight=False)
        return
    before = set_alias(uri, model, alias=CHAMPION, version=version)
    console.print(f"{model} version {version} is {CHAMPION} now (before: {before or 'none'})", highlight=False)
