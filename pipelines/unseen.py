"""Rows that a model must not be judged by, because it has learnt them."""

from collections.abc import Iterator, Sequence

from pipelines.contenders import Contender
from recsys_mtl.config import ConfigError
from recsys_mtl.data.day import day_facts
from recsys_mtl.data.encode import Encoder
from recsys_mtl.storage import Place


def require_unseen(contenders: Sequence[Contender], data: Place, split: str) -> None:
    """Make sure that no model has learnt the rows of a split: one that has learnt a day has learnt its test rows.

    Raises:
        ConfigError: every model that has, and what to take instead.
    """
    if problems := list(_problems(contenders, data, split)):
        raise ConfigError(problems)


def _problems(contenders: Sequence[Contender], data: Place, split: str) -> Iterator[str]:
    fingerprint = Encoder.load(data).spec.fingerprint
    for contender in contenders:
        manifest = contender.bundle.manifest
        learnt_a_day = manifest.run.get("trainer", {}).get("progressive", False)
        if not learnt_a_day or manifest.fingerprint != fingerprint:
            continue
        held_out = day_facts(data).held_out
        if split != "valid" or not held_out:
            instead = "take --split valid, or a later day as --data" if held_out else "take a later day as --data"
            yield f"--split: {contender.label} has learnt the {split} rows of {data}: {instead}"
