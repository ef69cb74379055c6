"""The one configuration mechanism: typed trees, YAML files merged left to right, and overrides."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

C = TypeVar("C", bound="Config")
LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader; where there is libyaml its own, which is seven times as fast: a service reads while it answers."""


class Config(BaseModel):
    """Base of everything a person configures: frozen, unknown keys refused, fields documented under their names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class ConfigError(ValueError):
    """One or more problems in what the user wrote, each as ``path: message``."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[tuple[str, ...]]]:
        # Errors travel between processes; an exception is otherwise remade from its text, letter by letter here.
        return type(self), (self.problems,)


def load(schema: type[C], sources: Sequence[str]) -> C:
    """Build ``schema`` from YAML files and ``path.to.field=value`` overrides, later ones first in rank.

    Raises:
        ConfigError: every problem at once, each with the path of the field or the file.
    """
    tree: Any = defaults(schema)
    problems: list[str] = []
    for source in sources:
        try:
            tree = merge(tree, read_override(source) if is_override(source) else read_yaml(Path(source)))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return validate(schema, tree)


def validate(schema: type[C], tree: Any, where: str = "") -> C:
    """Check ``tree`` against ``schema``; ``where`` prefixes the paths in messages.

    Raises:
        ConfigError: every problem at once.
    """
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        problems = [problem for problem in error.errors() if not is_echo(problem)]
        raise ConfigError(where + line for problem in problems for line in explain(problem, tree)) from None


def read_yaml(path: Path) -> Any:
    """Parse a YAML file that holds a mapping.

    Raises:
        ConfigError: no such file, not YAML (with its line) or not a mapping.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from None
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes, name: str) -> Any:
    """Parse the content of a YAML file that holds a mapping.

    Raises:
        ConfigError: not YAML (with its line) or not a mapping.
    """
    try:
        tree = yaml.load(content.decode(), LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{name}: not valid YAML: {yaml_problem(error)}"]) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError([f"{name}: expected a mapping of fields, got {type(tree).__name__}"])
    return tree


def is_override(source: str) -> bool:
    """Tell ``path.to.field=value`` from a file name: what stands before the first ``=`` has no slash."""
    path, equals, _ = source.partition("=")
    return bool(equals) and "/" not in path


def read_override(source: str) -> dict[str, Any]:
    """Turn ``a.b=value`` into a one-leaf tree; the value is read as YAML.

    Raises:
        ConfigError: no path, or a value that is not YAML.
    """
    path, _, text = source.partition("=")
    keys = path.strip().split(".")
    if not all(keys):
        raise ConfigError([f"{source}: expected path.to.field=value"])
    try:
        leaf: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not valid YAML: {yaml_problem(error)}"]) from None
    tree = {keys.pop(): leaf}
    while keys:
        tree = {keys.pop(): tree}
    return tree


def yaml_problem(error: Exception) -> str:
    """Say in one line what a YAML parser stumbled over, and where."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
    return " ".join(str(error).split())


def merge(base: Any, over: Any) -> Any:
    """Deep-merge ``over`` into ``base``; a mapping that names another ``kind`` replaces it whole."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    if over.get("kind", base.get("kind")) != base.get("kind"):
        return over
    return {**base, **{key: merge(base.get(key), value) for key, value in over.items()}}


def defaults(schema: type[Config]) -> dict[str, Any]:
    """Collect the default tree, so that an override of one leaf keeps the default ``kind`` beside it."""
    tree: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            if isinstance(value, BaseModel):
                tree[name] = value.model_dump(mode="json")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            tree[name] = defaults(field.annotation)
    return tree


def is_echo(problem: ErrorDetails) -> bool:
    """Spot pydantic's second complaint about a list: too short only because an item of it was refused already."""
    return problem["type"] == "too_short" and len(problem["input"]) >= problem["ctx"]["min_length"]


def explain(problem: ErrorDetails, tree: Any) -> list[str]:
    """Print one pydantic error; the several problems that one validator found get a line each."""
    cause = problem.get("ctx", {}).get("error")
    if not isinstance(cause, ConfigError):
        return [describe(problem, tree)]
    place = user_path(problem["loc"], tree)
    return [".".join([*place, found]) for found in cause.problems]


def describe(problem: ErrorDetails, tree: Any) -> str:
    """Print one pydantic error as ``path.to.field: message (got value)``."""
    path = ".".join(user_path(problem["loc"], tree)) or "configuration"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    match problem["type"]:
        case "extra_forbidden":
            return f"{path}: unknown field"
        case "union_tag_not_found":
            return f"{path}.kind: field required"
        case "union_tag_invalid":
            return f"{path}.kind: expected one of {problem['ctx']['expected_tags']} (got {problem['ctx']['tag']!r:.80})"
        case "missing" | "value_error":
            return f"{path}: {message}"
        case _:
            return f"{path}: {message} (got {problem['input']!r:.80})"


def user_path(loc: Iterable[int | str], tree: Any) -> list[str]:
    """Name the place as the user wrote it: without the tags that pydantic puts into a union's location.

    A tag is the ``kind`` of the alternative; those of alternatives without one have a blank, as no field has.
    """
    path: list[str] = []
    for part in loc:
        is_field = isinstance(tree, Mapping) and part in tree
        if not is_field and (" " in str(part) or (isinstance(tree, Mapping) and part == tree.get("kind"))):
            continue
        path.append(str(part))
        tree = child(tree, part)
    return path


def child(tree: Any, key: int | str) -> Any:
    """Step into a mapping or a list; None where there is nothing."""
    if isinstance(tree, Mapping):
        return tree.get(key)
    if isinstance(tree, Sequence) and not isinstance(tree, str) and isinstance(key, int) and key < len(tree):
        return tree[key]
    return None
