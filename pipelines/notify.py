"""Telling people and programs how a day went. Whatever goes wrong here stops nothing."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.daily_config import NotifyConfig
from recsys_mtl.tracking.store import hide_passwords


def notify(config: NotifyConfig, message: Mapping[str, Any]) -> list[str]:
    """Send a message to whom it concerns; return what went wrong."""
    return list(_problems(config, json.dumps(message).encode()))


def _problems(config: NotifyConfig, body: bytes) -> Iterator[str]:
    if config.url is not None and (problem := _post(config.url, body, config.timeout_s)):
        yield f"notify.url: {problem}"
    if config.command is not None and (problem := _call(config.command, body, config.timeout_s)):
        yield f"notify.command: {problem}"


def _post(url: str, body: bytes, timeout_s: float) -> str | None:
    address = os.environ.get(url[1:]) if url.startswith("$") else url
    if not address:
        return f"there is no environment variable {url[1:]}"
    headers = {"Content-Type": "application/json", "User-Agent": "recsys-mtl"}
    try:
        request = urllib.request.Request(address, data=body, headers=headers, method="POST")
        urllib.request.urlopen(request, timeout=timeout_s).close()
    except (OSError, ValueError) as error:  # refused, not in time, no address at all
        return hide_passwords(str(error)).replace(address, url)
    return None


def _call(command: tuple[str, ...], body: bytes, timeout_s: float) -> str | None:
    try:
        done = subprocess.run(command, input=body, timeout=timeout_s, capture_output=True, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return f"{command[0]} ended with exit code {done.returncode}: {' '.join(last)}" if done.returncode else None
