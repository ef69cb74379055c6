"""The terminal: what all commands print to, how they take their arguments, and how they refuse them."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console

from recsys_mtl.config import ConfigError
from recsys_mtl.data.values import FeatureError

PLAIN_WIDTH = 160
"""Columns of tables where there is no terminal to fit them to."""

console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
errors = Console(stderr=True, soft_wrap=True)

Sources = Annotated[
    list[str],
    typer.Argument(metavar="FILES_OR_FIELDS...", help="YAML files, merged left to right, and path.to.field=value."),
]


def user_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print what the user can mend as ``path: message``, one a line, and exit with code 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            for problem in error.problems:
                errors.print(problem, style="red", markup=False, highlight=False)
        except FeatureError as error:
            errors.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2)

    return wrapped
