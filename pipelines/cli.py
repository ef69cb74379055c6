"""The command line: ``recsys-mtl COMMAND``. Each command is a thin front of a program."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipelines import (
    job_commands,
    model_commands,
    plan_commands,
    prepare_commands,
    serve_commands,
    train_commands,
    tune_commands,
)
from pipelines.terminal import console


class InOrder(TyperGroup):
    """Commands as `GROUPS` has them; Typer puts those with commands of their own last."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  a context of the click within Typer, which it hides
        """Return the names."""
        return [name for group in GROUPS.values() for name in group]


app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def doctor_command() -> None:
    """Check the installation: versions, imports, disk; one line each, ok or what to do.

    Example: recsys-mtl doctor
    """
    from pipelines import doctor

    raise typer.Exit(doctor.run())


Group = Mapping[str, Callable[..., Any] | typer.Typer]
GROUPS: Mapping[str, Group] = {
    "Data": {"prepare": prepare_commands.prepare},
    "Training": {
        "train": train_commands.train_command,
        "tune": tune_commands.tune_command,
        "daily": train_commands.daily_command,
        "deliver": train_commands.deliver_command,
        "plan": plan_commands.plan_command,
        "schema": plan_commands.schema_command,
    },
    "On a Ray cluster": {"submit": job_commands.submit_command, "job": job_commands.job},
    "Models": {
        "evaluate": model_commands.evaluate_command,
        "compare": model_commands.compare_command,
        "experts": model_commands.experts_command,
        "versions": model_commands.versions_command,
        "promote": model_commands.promote_command,
        "rollback": model_commands.rollback_command,
        "quantise": model_commands.quantise_command,
    },
    "Serving": {
        "serve": serve_commands.serve_command,
        "serve-key": serve_commands.serve_key_command,
        "publish-features": serve_commands.publish_features_command,
    },
    "This installation": {"doctor": doctor_command},
}
"""All commands, in the order in which ``--help`` lists them."""
WITHOUT_ARGUMENTS = ("schema", "serve", "doctor")
"""Commands that do something when they are given nothing; all others then show their help."""


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        console.print(f"recsys-mtl {version('recsys-mtl')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Train multi-task ranking models on Ray, compare them in MLflow, serve their scores."""


for title, group in GROUPS.items():
    for name, command in group.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=title)
        else:
            app.command(name, no_args_is_help=name not in WITHOUT_ARGUMENTS, rich_help_panel=title)(command)

if __name__ == "__main__":
    app()
