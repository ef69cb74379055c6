"""Commands that turn logs into prepared data sets: ``prepare kuairand``, ``synthetic`` and ``table``."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal import console, user_errors
from recsys_mtl.config import ConfigError

prepare = typer.Typer(help="Turn logged impressions into a prepared data set.", no_args_is_help=True)

Out = Annotated[
    str,
    typer.Option(help="Directory or s3://BUCKET/PREFIX of the prepared data set; it is there only when it is whole."),
]

HoldOut = Annotated[
    float | None,
    typer.Option(
        min=0, max=0.5, help="Share of a day's users whose rows are not learnt but judged by: for `daily --pipeline`."
    ),
]


def refuse_ignored(reason: str, **options: object) -> None:
    """Refuse options that were given and would have no effect."""
    given = [name.replace("_", "-") for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"--{name}: would be ignored: {reason}" for name in given)


@prepare.command("kuairand")
@user_errors
def prepare_kuairand(
    source: Annotated[Path, typer.Option(help="Directory with the official KuaiRand-Pure files (.csv or .csv.gz).")],
    out: Out,
    valid_from: Annotated[
        int | None, typer.Option(help="First day of the validation split, YYYYMMDD; 20220502 by default.")
    ] = None,
    test_from: Annotated[
        int | None, typer.Option(help="First day of the test split, YYYYMMDD; 20220503 by default.")
    ] = None,
    days_from: Annotated[
        int | None, typer.Option(help="Write OUT/base and one data set a day from this day on, YYYYMMDD, for `daily`.")
    ] = None,
    days_to: Annotated[int | None, typer.Option(help="Last of these days.")] = None,
    hold_out: HoldOut = None,
) -> None:
    """KuaiRand-Pure: short-video impressions with eight signals and watch time.

    Example: recsys-mtl prepare kuairand --source KuaiRand-Pure/data --out data/kuairand
    """
    from pipelines.prepare.days import write_days
    from pipelines.prepare.kuairand import TEST_FROM, VALID_FROM
    from pipelines.prepare.kuairand import prepare as read
    from pipelines.prepare.kuairand_days import prepare_days
    from pipelines.prepare.write import write

    if days_from is not None:
        refuse_ignored("--days-from splits by day", valid_from=valid_from, test_from=test_from)
        days = partial(prepare_days, source, days_from=days_from, days_to=days_to)
        write_days(days, out, console, hold_out=hold_out or 0.0)
    else:
        refuse_ignored("there is no --days-from", days_to=days_to, hold_out=hold_out)
        cuts = (VALID_FROM if valid_from is None else valid_from, TEST_FROM if test_from is None else test_from)
        write(lambda: read(source, valid_from=cuts[0], test_from=cuts[1]), out, console)


@prepare.command("synthetic")
@user_errors
def prepare_synthetic(
    out: Out,
    rows: Annotated[int, typer.Option(min=1000, help="Impressions over all splits.")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same data.")] = 0,
    users: Annotated[
        int | None, typer.Option(min=2, help="Users of the world; a tenth of the rows by default.")
    ] = None,
    items: Annotated[
        int | None, typer.Option(min=2, help="Videos of the world; a tenth of the rows by default.")
    ] = None,
    correlation: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Make the MMoE paper's two regression tasks with this correlation instead."),
    ] = None,
) -> None:
    """A generated short-video world with correlated feedback; needs no data.

    Example: recsys-mtl prepare synthetic --out data/demo --rows 200000
    """
    from pipelines.prepare.synthetic import prepare as generate
    from pipelines.prepare.write import write

    write(lambda: generate(rows, seed=seed, users=users, items=items, correlation=correlation), out, console)


@prepare.command("table")
@user_errors
def prepare_table(
    schema: Annotated[Path, typer.Option(help="YAML file that names features, tasks and the split.")],
    source: Annotated[list[str], typer.Option(help="CSV or Parquet file, or a glob; can be given several times.")],
    out: Out,
    grow_from: Annotated[
        str | None, typer.Option(help="Prepared data set of the day before, or base, that --day continues.")
    ] = None,
    day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="One day, for `daily`.")] = None,
    hold_out: HoldOut = None,
) -> None:
    """Your own CSV or Parquet files, described by a schema.

    Example: recsys-mtl prepare table --schema schema.yaml --source 'logs/*.csv.gz' --out data/mine
    """
    from pipelines.prepare.days import grow
    from pipelines.prepare.table import prepare as read
    from pipelines.prepare.table import prepare_day
    from pipelines.prepare.write import write

    if grow_from is not None and day is not None:
        grow(prepare_day(schema, source, day.date()), out, grow_from, console, hold_out=hold_out or 0.0)
    else:
        given = {"grow_from": grow_from, "day": day, "hold_out": hold_out}
        refuse_ignored("a day needs both --grow-from and --day", **given)
        write(lambda: read(schema, source), out, console)
