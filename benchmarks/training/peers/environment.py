"""The peers' environment: made once beside this project's own, and made again when ``peers.txt`` changes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from recsys_mtl.config import ConfigError

REQUIREMENTS = Path(__file__).parent.parent / "peers.txt"
ENVIRONMENT = Path(__file__).parent.parent.parent.parent / ".venv-peers"
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
"""deepctr-torch asks PyPI for its newest version whenever it is imported; so it hears at once that nobody answers."""

PEERS = {"torch-rechub": "rechub", "deepctr-torch": "deepctr"}
"""Modules that drive them."""


def command(peer: str) -> list[str]:
    """Return the command that measures with a peer, without its arguments."""
    return [str(python()), "-m", f"benchmarks.training.peers.{PEERS[peer]}"]


def python() -> Path:
    """Return the environment's interpreter."""
    return ENVIRONMENT / "bin" / "python"


def require(say: Callable[[str], None]) -> None:
    """Make the environment, if it is not there as ``peers.txt`` wants it.

    Raises:
        ConfigError: it cannot be made, with what pip says.
    """
    marker, wanted = ENVIRONMENT / ".installed", REQUIREMENTS.read_text(encoding="utf-8")
    if marker.is_file() and marker.read_text(encoding="utf-8") == wanted:
        return
    say(f"installing {', '.join(PEERS)} into {ENVIRONMENT.name} ...")
    pip = [str(python()), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "-r", str(REQUIREMENTS)]
    for step in ([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], pip):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError([f"{ENVIRONMENT}: {done.stderr.strip()[-2000:]} (--no-peers leaves them out)"])
    marker.write_text(wanted, encoding="utf-8")
