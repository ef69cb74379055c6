"""API keys: who may ask for what. Kept as hashes; a key itself is seen once, by the person who makes it."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from recsys_mtl.config import ConfigError

Scope = Literal["rank", "admin", "metrics"]
"""What a key allows: to ask for rankings and to report events, to change what the service does, to read its metrics."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HASH = re.compile(r"[0-9a-f]{64}")
FORM = f"NAME:SCOPE[,SCOPE]:SHA256, as `recsys-mtl serve-key` prints it; the scopes are {', '.join(SCOPES)}"
RANDOM_BYTES = 32


@dataclass(frozen=True)
class Key:
    """What the service knows of a key.

    Keys are 256 random bits, so that one plain SHA-256 hides them: what makes password hashes slow is there for secrets
    that can be guessed, and would cost every request.
    """

    name: str
    """Appears in logs and metrics."""
    scopes: frozenset[Scope]
    sha256: str

    @property
    def line(self) -> str:
        """Write it in the way that `read_keys` reads."""
        return f"{self.name}:{','.join(scope for scope in SCOPES if scope in self.scopes)}:{self.sha256}"


def new_key(name: str, scopes: Iterable[str]) -> tuple[str, Key]:
    """Make a key; return the text that a client sends, and what the service is to know.

    Raises:
        ConfigError: a name that cannot be one, or a scope that there is not.
    """
    listed = sorted(set(scopes))
    if not NAME.fullmatch(name):
        raise ConfigError([f"name: {name!r:.80} is not up to 64 letters, digits, '.', '-' and '_'"])
    if wrong := [scope for scope in listed if scope not in SCOPES]:
        raise ConfigError([f"scope: {scope!r:.80} is not one of {', '.join(SCOPES)}" for scope in wrong])
    secret = f"rmtl_{secrets.token_urlsafe(RANDOM_BYTES)}"
    (key,) = read_keys([f"{name}:{','.join(listed)}:{hash_of(secret.encode())}"])
    return secret, key


def hash_of(secret: bytes) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(secret).hexdigest()


def read_keys(lines: Iterable[str]) -> tuple[Key, ...]:
    """Read keys, one a line; blank lines and those that begin with ``#`` are left out.

    Raises:
        ValueError: a line that is no key, told by its number, or a name that comes twice.
    """
    keys: dict[str, Key] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, rest = text.partition(":")
        listed, _, digest = rest.partition(":")
        scopes = frozenset(scope for scope in SCOPES if scope in listed.split(","))
        if not (NAME.fullmatch(name) and HASH.fullmatch(digest) and scopes == frozenset(listed.split(","))):
            raise ValueError(f"key {number} is not of the form {FORM}")
        if name in keys:
            raise ValueError(f"key {number}: there is another one called {name!r}")
        keys[name] = Key(name, scopes, digest)
    return tuple(keys.values())


def split_keys(text: str) -> list[str]:
    """Split keys of one variable, which stand between blanks, semicolons or line ends."""
    return re.split(r"[\s;]+", text)


def find(secret: bytes, keys: Sequence[Key]) -> Key | None:
    """Find the key that a client has sent; how long it takes says nothing about the keys."""
    digest, found = hash_of(secret), None
    for key in keys:  # all of them, always
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found
