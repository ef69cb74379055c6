"""``python -m docs.reference``: write the pages that follow from the programs themselves, ``docs/reference/``."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.cli
import typer.main

from docs.fields import sections, table
from pipelines.cli import app
from pipelines.daily_config import Pipeline
from pipelines.policy import Policy
from pipelines.run import TrainRun
from pipelines.search_space import TuneConfig
from serving.app import create_app
from serving.settings import PREFIX, Settings

FOLDER = Path(__file__).parent / "reference"
HOW = "`recsys-mtl {command}` takes YAML files with these fields, and `path.to.field=value`, merged from left to right."
PAGES = {
    "training-run": ("A training run", HOW.format(command="train"), TrainRun),
    "daily-pipeline": ("The daily pipeline", HOW.format(command="daily --pipeline"), Pipeline),
    "policy": ("A promotion policy", HOW.format(command="promote --policy"), Policy),
    "search": ("A search", HOW.format(command="tune --space"), TuneConfig),
}
NOTE = "<!-- Written by `python -m docs.reference`. -->\n\n"


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return every page by the name of its file."""
    found = {f"{name}.md": fields(*page) for name, page in PAGES.items()}
    found |= {"service-settings.md": settings(), "commands.md": commands(), "http-api.md": http_api()}
    return {name: NOTE + text.strip() + "\n" for name, text in found.items()}


def fields(title: str, intro: str, config: Any) -> str:
    """Describe a tree of settings."""
    parts = [f"# {title}", intro]
    for section in sections(config.model_json_schema()):
        parts += section.markdown()
    return "\n\n".join(parts)


def settings() -> str:
    """Describe the service's variables."""
    (section, *_) = sections(Settings.model_json_schema())
    rows = [(f"`{PREFIX}{name.strip('`').upper()}`", *rest) for name, *rest in section.rows]
    intro = "Each is an environment variable of `recsys-mtl serve`; some are options of the command, too."
    return "\n\n".join(["# Settings of the service", intro, table(section.HEADER, rows)])


def commands() -> str:
    """Describe the command line."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="recsys-mtl")
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="recsys-mtl", title="Commands")
    return re.sub(r"\n{3,}", "\n\n", text)


def http_api() -> str:
    """Describe the service's addresses, requests and answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about models that are not there to be served
        document = create_app(Settings(model="models:/none")).openapi()
    intro = "A running service has the same, to try out, at `/docs`, and for programs at `/openapi.json`."
    parts = ["# The HTTP API", intro]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += list(_operation(f"{method.upper()} {path}", operation))
    for section in sections({"$defs": document["components"]["schemas"], "properties": {}}, everything=True):
        parts += section.markdown()
    return "\n\n".join(parts)


def _operation(name: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name}"
    yield operation.get("description", operation.get("summary", ""))
    if body := operation.get("requestBody", {}).get("content", {}):
        yield "Takes " + ", ".join(f"`{kind}`{_schema(content)}" for kind, content in body.items()) + "."
    rows = [
        (
            status,
            answer.get("description", ""),
            ", ".join(f"`{k}`{_schema(c)}" for k, c in answer.get("content", {}).items()),
        )
        for status, answer in sorted(operation["responses"].items())
    ]
    yield table(("status", "meaning", "content"), rows)


def _schema(content: Mapping[str, Any]) -> str:
    found = re.findall(r"#/components/schemas/(\w+)", json.dumps(content.get("schema", {})))
    return f" ({', '.join(f'[{name}](#{name.lower()})' for name in dict.fromkeys(found))})" if found else ""


if __name__ == "__main__":
    main()
