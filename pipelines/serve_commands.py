"""Commands of the ranking service: start it, make keys for it, and publish the features that it looks up.

The only module of the programs that knows serving.
"""

from datetime import datetime
from typing import Annotated

import typer

from pipelines.terminal import console, user_errors


@user_errors
def publish_features_command(
    data: Annotated[
        str, typer.Option(help="Prepared data set: its schema, and the newest values of its training split.")
    ],
    to: Annotated[str, typer.Option(help="parquet:DIRECTORY, parquet:s3://..., or redis://HOST:PORT/DB.")],
    users: Annotated[str | None, typer.Option(help="Parquet file with users instead of the data set's.")] = None,
    items: Annotated[str | None, typer.Option(help="Parquet file with items instead of the data set's.")] = None,
    as_of: Annotated[
        datetime | None, typer.Option(help="When the values were read, in UTC; events after that stay. Default: now.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Leave the rows of all other keys as they are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check, write nothing.")] = False,
) -> None:
    """Put the features of users and items into a store, so that ranking requests can do with ids alone.

    Example: recsys-mtl publish-features --data data/demo --to parquet:data/demo-features
    """
    from serving.store.publish import PublishConfig, run

    files = {"users": users, "items": items}
    run(PublishConfig(data=data, to=to, **files, as_of=as_of, update=update, dry_run=dry_run), console)


def publish_day(data: str, to: str, *, as_of: datetime | None, update: bool) -> None:
    """Publish the features of a prepared day: programs do not know the feature store, which is serving's."""
    from serving.store.publish import PublishConfig, run

    run(PublishConfig(data=data, to=to, as_of=as_of, update=update), console)


@user_errors
def serve_command(
    model: Annotated[str | None, typer.Option(help="models:/NAME@champion, a bundle's directory or s3://...")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port.")] = None,
) -> None:
    """Start the ranking API. Settings come from the environment (RECSYS_MTL_...) and from these options.

    Example: recsys-mtl serve --model models:/recsys-mtl@champion --port 8000
    """
    from serving.run import run

    given = {"model": model, "port": port}
    raise typer.Exit(run(**{name: value for name, value in given.items() if value is not None}))


@user_errors
def serve_key_command(
    name: Annotated[str, typer.Argument(help="Who the key is for; appears in logs and metrics.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What it allows: rank, admin, metrics. Default: rank.")
    ] = None,
) -> None:
    """Make an API key for the ranking API. It is shown once; the service keeps the line with its hash.

    Example: recsys-mtl serve-key feed --scope rank
    """
    from serving.keys import new_key

    secret, key = new_key(name, scope or ["rank"])
    console.out(f"key, for the client, not shown again:\n  {secret}", highlight=False)
    console.out(f"line for RECSYS_MTL_API_KEYS or the file of RECSYS_MTL_API_KEYS_FILE:\n  {key.line}", highlight=False)
