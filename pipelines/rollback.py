"""Going back: the version that was champion before is it again."""

from rich.console import Console

from pipelines.notes import note
from pipelines.promote import CHAMPION
from recsys_mtl.config import ConfigError
from recsys_mtl.registry import alias_moves, aliases, describe, set_alias, way_back
from recsys_mtl.tracking import TrackingConfig

ROLLED_BACK = "rolled back"
"""Decision about a champion that a person has gone back from."""


def roll_back(model: str, console: Console, *, tracking_uri: str | None = None, dry_run: bool = False) -> int:
    """Make the version champion that was it before; return it. Again and again goes back ever further.

    Raises:
        ConfigError: no such model, no champion, or nothing to go back to.
    """
    uri = tracking_uri or TrackingConfig().uri
    now = aliases(uri, model).get(CHAMPION)
    if now is None:
        raise ConfigError([f"{model}: has no {CHAMPION} to go back from"])
    target, gone = _newest_left(model, way_back(alias_moves(uri, model, alias=CHAMPION), now), uri)
    for version in gone:
        console.print(f"version {version} was {CHAMPION} before, but is not there any more", highlight=False)
    if target is None:
        raise ConfigError([f"{model}: no version was {CHAMPION} before version {now}: there is nothing to go back to"])
    if dry_run:
        console.print(f"dry run: {CHAMPION} of {model} would go back from version {now} to {target}", highlight=False)
        return target
    note(model, now, ROLLED_BACK, f"{ROLLED_BACK} to version {target}", uri)
    set_alias(uri, model, alias=CHAMPION, version=target, is_rollback=True)
    console.print(f"{CHAMPION} of {model} is version {target} again (before: {now})", highlight=False)
    return target


def _newest_left(model: str, versions: list[int], uri: str) -> tuple[int | None, list[int]]:
    """Return the first of these versions that still exists, and those before it that do not."""
    gone: list[int] = []
    for version in versions:
        try:
            describe(f"models:/{model}/{version}", uri)
        except ConfigError:
            gone.append(version)
        else:
            return version, gone
    return None, gone
