"""A JSON schema as tables of fields, section by section, in the order in which a reader meets them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

Node = Mapping[str, Any]
LIMITS = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "exclusiveMaximum": "< {}", "maximum": "<= {}"}


@dataclass
class Section:
    """One mapping: what it is for, where it stands, and its fields."""

    HEADER: ClassVar = ("field", "type", "default", "meaning")
    title: str
    description: str
    places: list[str] = field(default_factory=list)
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def markdown(self) -> Iterator[str]:
        """Lay it out."""
        if self.title:
            yield f"## {self.title}"
        if self.places:
            yield "At " + ", ".join(f"`{place}`" for place in self.places) + "."
        if self.description:
            yield self.description
        if self.rows:
            yield table(self.HEADER, self.rows)


def sections(schema: Node, *, everything: bool = False) -> list[Section]:
    """Return the root's section and those of all that it leads to; of every definition if ``everything`` is wanted."""
    definitions = schema.get("$defs", {})
    root = Section("", "", rows=rows_of(schema, definitions))
    found: dict[str, Section] = {}
    todo = [(name, place) for place, node in schema["properties"].items() for name in referred(node)]
    todo += [(name, "") for name in definitions] if everything else []
    while todo:
        name, place = todo.pop(0)
        definition = definitions[name]
        if name not in found:
            found[name] = Section(name, text_of(definition), rows=rows_of(definition, definitions))
            todo += [
                (inner, f"{place}.{key}" if place else "")
                for key, node in definition.get("properties", {}).items()
                for inner in referred(node)
            ]
        if place and place not in found[name].places:
            found[name].places.append(place)
    return ([] if everything else [root]) + list(found.values())


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table of words."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows])


def rows_of(definition: Node, definitions: Node) -> list[tuple[str, ...]]:
    """Return a line for each field; of a list of words, those it has."""
    required = definition.get("required", ())
    if "enum" in definition:
        return [("", type_of(definition), "", "")]
    return [
        (
            f"`{name}`",
            type_of(node),
            "required" if name in required else default_of(node),
            meaning_of(node, definitions),
        )
        for name, node in definition.get("properties", {}).items()
    ]


def referred(node: Node) -> list[str]:
    """Return the names of definitions that a field leads to."""
    return list(dict.fromkeys(re.findall(r'"#/(?:\$defs|components/schemas)/(\w+)"', json.dumps(node))))


def type_of(node: Node) -> str:
    """Say what a value may be."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in node or "enum" in node:
        return ", ".join(f"`{json.dumps(value)}`" for value in node.get("enum", [node.get("const")]))
    if options := [option for key in ("anyOf", "oneOf", "allOf") for option in node.get(key, ())]:
        return " or ".join(dict.fromkeys(type_of(option) for option in options))
    if node.get("type") == "array":
        return f"list of {type_of(node['items'])}" if "items" in node else "list"
    if node.get("type") == "object" and isinstance(node.get("additionalProperties"), dict):
        return f"mapping to {type_of(node['additionalProperties'])}"
    limits = " and ".join(text.format(node[key]) for key, text in LIMITS.items() if key in node)
    return f"{node.get('type', 'any')} {limits}".strip()


def default_of(node: Node) -> str:
    """Write a default as it would stand in a file; that of a mapping is what its own fields say."""
    default = node.get("default")
    if isinstance(default, dict) or "default" not in node:
        return ""
    return f"`{json.dumps(default)}`"


def meaning_of(node: Node, definitions: Node) -> str:
    """Return what a field says of itself; otherwise what the one section says that it leads to."""
    if "const" in node and "description" not in node:
        return "Chooses this one."
    (*others, name) = referred(node) or [""]
    return text_of(node) or text_of({} if others else definitions.get(name, {})).partition(". ")[0].rstrip(".")


def text_of(node: Node) -> str:
    """Return a description in one line, as Markdown."""
    text = " ".join(node.get("description", "").split())
    return text.replace("``", "`").replace("|", "\\|")
