"""Where a feature store is: ``parquet:DIRECTORY`` or ``redis://HOST:PORT/DB``."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from recsys_mtl.config import ConfigError
from recsys_mtl.storage import Location, locate

PARQUET = "parquet:"
REDIS = ("redis://", "rediss://", "unix://")
FORMS = "parquet:DIRECTORY, parquet:s3://BUCKET/PREFIX, redis://HOST:PORT/DB or rediss://HOST:PORT/DB"
DEFAULT_NAME = "default"


@dataclass(frozen=True)
class ParquetAddress:
    """Files that are loaded into memory."""

    place: Location

    def __str__(self) -> str:
        return f"{PARQUET}{self.place}"


@dataclass(frozen=True)
class RedisAddress:
    """A server that speaks Redis' language."""

    url: str
    """As redis-py takes it, a password included."""
    name: str
    """Of the data set, so that a server can have several."""

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


Address = ParquetAddress | RedisAddress


def read_address(text: str) -> Address:
    """Read an address; ``?name=NAME`` tells the data sets of one Redis apart.

    Raises:
        ConfigError: it has another form.
    """
    if text.startswith(PARQUET) and (place := text.removeprefix(PARQUET)):
        return ParquetAddress(locate(place))
    if not text.startswith(REDIS):
        shown = f"{text.partition('://')[0]}://..." if "@" in text else text  # there may be a password in it
        raise ConfigError([f"{shown!r:.80} is no feature store; expected {FORMS}"])
    parts = urlsplit(text)
    options = parse_qs(parts.query)
    name = options.pop("name", [DEFAULT_NAME])[-1]
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ConfigError([f"name: {name!r:.80} is not up to 64 letters, digits, '.', '-' and '_'"])
    return RedisAddress(urlunsplit(parts._replace(query=urlencode(options, doseq=True))), name)
