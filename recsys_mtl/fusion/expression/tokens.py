"""Text to tokens: names, numbers and signs, each with its position."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

ALLOWED = "task names, numbers, + - * / ^, parentheses, log, exp, min and max"
TOKEN = re.compile(
    r"[ \t\r\n]*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9_]*)|(?P<sign>[-+*/^(),])|(?P<end>$))"
)
BLANK = re.compile(r"[ \t\r\n]*")


class ExpressionError(ValueError):
    """Text that is not an expression, or one that cannot be taken."""


class Token(NamedTuple):
    """A name, a number, a sign or the end."""

    kind: Literal["name", "number", "sign", "end"]
    text: str
    position: int
    """Of its first character, from 1."""

    def __str__(self) -> str:
        """Say what it is in a message."""
        return "the end" if self.kind == "end" else repr(self.text[:40])


def tokens(text: str) -> Iterator[Token]:
    """Cut text into tokens; the last is the end.

    Raises:
        ExpressionError: a character that no expression has.
    """
    place = 0
    while True:
        match = TOKEN.match(text, place)
        if match is None:
            place = BLANK.match(text, place).end()  # type: ignore[union-attr]  # it matches nothing at all, too
            raise unexpected(place + 1, f"{text[place]!r} is not allowed; an expression has {ALLOWED}")
        kind = match.lastgroup
        assert kind in {"name", "number", "sign", "end"}, kind
        yield Token(kind, match[kind], match.start(kind) + 1)  # type: ignore[arg-type]  # one of the above
        if kind == "end":
            return
        place = match.end()


def unexpected(position: int, message: str) -> ExpressionError:
    """Make the error that says where it is."""
    return ExpressionError(f"at character {position}: {message}")
