"""Every command on every page is one: its options exist, its files are there, its settings load. None of it is run."""

import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pipelines.cli import app
from pipelines.daily import read_config
from pipelines.daily_config import Pipeline
from pipelines.policy import Policy
from pipelines.run import TrainRun
from pipelines.search_space import TuneConfig
from recsys_mtl.config import load
from tests.docs.pages import ROOT, Command, blocks, commands, pages

OF_THE_READER = ("model.yaml", "daily.yaml", "my-policy.yaml")
"""Configuration that the reader has written; it is left out."""
STANDS_FOR = {"OLD": "3", "V": "3", "$DAY": "2022-05-04", "p": "0.5", "FILES...": "pipelines/configs/models/ple.yaml"}
"""Words of the pages where the command line wants something else than text."""
SHIPPED = re.compile(r"(?:pipelines|helm|docker|benchmarks|tests|requirements)/[\w./-]+")
MAKE_SETTING = re.compile(r"^(\w+) \??:?=|^[\w-]+: (\w+) = ", re.MULTILINE)
FOUND = [command for page in pages() for command in commands(page)]
CONFIGS: dict[str, Any] = {"space": TuneConfig, "policy": Policy, "pipeline": Pipeline}


def words_of(command: Command) -> list[str]:
    """Return a command as somebody types it: no marks of what is optional or left out."""
    words = (word.strip("[]") for word in command.words)
    return [STANDS_FOR.get(word, word) for word in words if word not in ("...", "$@", "path.to.field=value")]


def leaves(command: Any, *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with its words."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, *above, name) if hasattr(inner, "commands") else [((*above, name), inner)]


@pytest.fixture(scope="module")
def line() -> Callable[..., dict[str, Any]]:
    """The command line, which says what it understood and does nothing."""
    root: Any = typer.main.get_command(app)
    given: list[dict[str, Any]] = []
    root.invoke_without_command = True
    for option in root.params:
        option.callback = None  # --install-completion would
    for words, leaf in leaves(root):
        leaf.callback = lambda words=words, **settings: given.append({"command": words, **settings})

    def parse(*words: str) -> dict[str, Any]:
        root.main(list(words), prog_name="recsys-mtl", standalone_mode=False)
        return given.pop() if given else {}

    return parse


@pytest.mark.parametrize("command", [one for one in FOUND if one.words[0] == "recsys-mtl"], ids=str)
def test_the_command_line_knows_it(command: Command, line: Callable[..., dict[str, Any]]) -> None:
    _, *words = words_of(command)
    names = [name for name, _ in leaves(typer.main.get_command(app))]
    if words == ["COMMAND"]:
        return
    if tuple(words) in names:  # named, not typed
        words.append("--help")
    settings = line(*words)
    check_settings(settings)


def check_settings(given: dict[str, Any]) -> None:
    """Load what a command was given to configure its program with."""
    sources = given.get("sources")
    if sources is not None and given["command"] == ("daily",):
        read_config(theirs_left_out(sources), given["days"])
    elif sources is not None:
        load(TrainRun, ["data.path=x", *theirs_left_out(sources)])
    for name, config in CONFIGS.items():
        if given.get(name) and (mine := theirs_left_out(given[name])):
            load(config, mine)


def theirs_left_out(sources: list[str]) -> list[str]:
    return [source for source in sources if source not in OF_THE_READER]


@pytest.mark.parametrize("command", [one for one in FOUND if one.words[0] == "python"], ids=str)
def test_the_module_is_a_program_that_takes_it(command: Command) -> None:
    _, first, *others = words_of(command)
    if first == "-m":
        check_module(others[0], others[1:])
    else:
        assert first in {block.title for block in blocks(ROOT / command.page)}


def check_module(name: str, arguments: list[str]) -> None:
    path = f"{name}.__main__" if is_package(name) else name
    assert find_spec(path) is not None
    if not arguments:
        return
    module = importlib.import_module(path)
    program = getattr(module, "app", None)
    if program is None:
        program = typer.Typer()
        program.command()(module.main)
    root = typer.main.get_command(program)
    for _, leaf in [*leaves(root), ((), root)]:
        leaf.callback = None if hasattr(leaf, "commands") else lambda **_: None
    root.main(arguments, standalone_mode=False)


def is_package(name: str) -> bool:
    found = find_spec(name)
    assert found is not None, name
    return found.submodule_search_locations is not None


@pytest.mark.parametrize("command", [one for one in FOUND if one.words[0] == "make"], ids=str)
def test_make_knows_it(command: Command) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = {a or b for a, b in MAKE_SETTING.findall(text)}
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())  # type: ignore[index]
    settings = dict(word.split("=", 1) for word in command.words[1:] if "=" in word)
    wanted = [word for word in command.words[1:] if "=" not in word]
    assert set(wanted) <= targets
    assert set(settings) <= known
    programs = {
        "bench": ["benchmarks.training", "--out", "x"],
        "bench-quality": ["benchmarks.quality", "x", "--out", "x"],
    }
    if "ARGS" in settings:
        (target,) = wanted
        name, *arguments = programs[target]
        check_module(name, [*arguments, *shlex.split(settings["ARGS"])])


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_ours_that_commands_name_are_there(page: Path) -> None:
    named = {found for command in commands(page) for word in command.words for found in SHIPPED.findall(word)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_there_are_commands() -> None:
    assert len(FOUND) > 100
    assert {command.words[0] for command in FOUND} == {"recsys-mtl", "make", "python"}


def test_the_example_of_every_help_is_a_command(line: Callable[..., dict[str, Any]]) -> None:
    for words, leaf in leaves(typer.main.get_command(app)):
        (example,) = re.findall(r"^Example: (.*?)(?:\n\n|\Z)", leaf.help, re.MULTILINE | re.DOTALL)
        typed = shlex.split(example.partition(" > ")[0])
        assert typed[: 1 + len(words)] == ["recsys-mtl", *words]
        check_settings(line(*typed[1:]))
