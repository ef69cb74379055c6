"""What pages tell a reader to type: their code blocks, and the commands in them and in running text."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```(?P<kind>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+")
IN_TEXT = re.compile(r"`((?:recsys-mtl|make|python -m) [^`]+)`")
PROGRAMS = ("recsys-mtl", "make", "python")
SHELL = ("console", "bash", "sh", "shell")
ENDS_COMMAND = re.compile(r"[();<>|&]+")
BEFORE_COMMAND = re.compile(r"\w+=.*|\{|--|nohup|plan|\(\)")
"""What may stand before a program in its line: variables, and parts of a shell function or of another command."""


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: str
    line: int
    kind: str
    """The language that the page names; ``indented`` where the block is marked by blanks."""
    title: str | None
    """File that the text is meant for."""
    text: str


@dataclass(frozen=True)
class Command:
    """A command of ours as a page has it."""

    page: str
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {' '.join(self.words)}"[:150]


def pages() -> list[Path]:
    """Return every page that a person has written."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if page.parent.name != "reference"]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
    found = {match.start(): (match["kind"], match["title"], match["text"]) for match in FENCED.finditer(text)}
    rest = FENCED.sub(lambda match: re.sub(r"[^\n]", " ", match[0]).replace(" ", ""), text)
    assert rest.count("\n") == text.count("\n")
    ordered = [Block(name, text[:at].count("\n") + 1, *block) for at, block in found.items()]
    ordered += [
        Block(name, rest[: match.start()].count("\n") + 1, "indented", None, match[0])
        for match in INDENTED.finditer(rest)
    ]
    return sorted(ordered, key=lambda block: block.line)


def commands(page: Path) -> Iterator[Command]:
    """Yield every command of ours on a page: in blocks for a shell, and in running text."""
    for block in blocks(page):
        if block.kind in (*SHELL, "indented"):
            for line, statement in statements(block):
                yield from (Command(block.page, line, words) for words in ours(statement))
    text = page.read_text(encoding="utf-8")
    for match in IN_TEXT.finditer(FENCED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)):
        line = text[: match.start()].count("\n") + 1
        yield from (Command(str(page.relative_to(ROOT)), line, words) for words in ours(match[1].replace("\n", " ")))


def statements(block: Block) -> Iterator[tuple[int, str]]:
    """Yield what a shell would take as one line, with the page's line; lines of prose come by themselves."""
    lines, at = block.text.splitlines(), 0
    first = block.line + (0 if block.kind == "indented" else 1)
    while at < len(lines):
        for end in range(at + 1, len(lines) + 1):
            text = "\n".join(lines[at:end])
            if is_whole(text):
                break
        else:  # an apostrophe, say
            text, end = "", at + 1
        yield first + at, text
        at = end


def is_whole(text: str) -> bool:
    """Say whether a shell would not ask for more."""
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return not text.rstrip().endswith("\\")


def ours(statement: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command of ours in a statement."""
    lexer = shlex.shlex(statement.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return
    command: list[str] = []
    is_start = True
    for word in [*words, ";"]:
        if ENDS_COMMAND.fullmatch(word) and word != "()":
            if command:
                yield tuple(command)
            command, is_start = [], True
        elif command:
            command.append(word)
        elif is_start and word.rpartition("/")[2] in PROGRAMS:
            command.append(word.rpartition("/")[2])
        else:
            is_start = is_start and BEFORE_COMMAND.fullmatch(word) is not None
