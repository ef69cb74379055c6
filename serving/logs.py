"""What the service writes to stderr: lines of JSON for programs, or of text for people."""

import json
import logging
import sys
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

LogFormat = Literal["json", "text"]
"""The word for each."""


class JSONLines(logging.Formatter):
    """One object a line. A record may bring ``fields`` of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """A sentence, and the record's ``fields`` after it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, RUF100 - logging's name
        return " ".join([super().formatMessage(record), *(f"{k}={quoted(v)}" for k, v in fields_of(record).items())])


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return what a record brings beside its message."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


def quoted(value: object) -> str:
    """Write a value so that it stays on its line, and is told from what follows."""
    text = str(value)
    return text if text.isascii() and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)


def configure_logging(chosen: LogFormat | None) -> None:
    """Write to stderr; to a terminal in text, if nothing is chosen."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(chosen, is_terminal=sys.stderr.isatty()))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("serving").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module=r"(fbgemm_gpu|torchrec)\b")


def formatter(chosen: LogFormat | None, *, is_terminal: bool) -> logging.Formatter:
    """Return what writes the lines."""
    return TextLines() if chosen == "text" or (chosen is None and is_terminal) else JSONLines()
