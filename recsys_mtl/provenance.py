"""Where a run comes from: the code that it runs, and the process that owns it."""

import os
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

GIT_SECONDS = 10


def code_tags(directory: Path = Path()) -> dict[str, str]:
    """Return the git commit checked out at ``directory`` and this library's version, as far as there are any."""
    tags = {}
    if commit := git_commit(directory):
        tags["git_commit"] = commit
    try:
        tags["recsys_mtl_version"] = version("recsys-mtl")
    except PackageNotFoundError:  # run from a source tree that is not installed
        pass
    return tags


def git_commit(directory: Path) -> str | None:
    """Return the commit, with ``-dirty`` where tracked files were changed since; None outside of a repository."""
    command = ["git", "-C", str(directory), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or one without a commit
        return None
    return answer.stdout.strip()


def owner() -> str:
    """Name this process so that others on this machine can tell later whether it still lives."""
    return f"{os.getpid()} {_started(os.getpid())} {_scope()} {socket.gethostname()}"


def is_gone(name: str) -> bool:
    """Tell whether the process that called itself ``name`` has ended; False where that cannot be known from here."""
    pid, started, scope, _ = name.split(" ", 3)
    return scope == _scope() and _started(int(pid)) != started


def is_alive(name: str) -> bool:
    """Tell whether ``name`` is another process that is running on this machine."""
    pid, started, scope, _ = name.split(" ", 3)
    return scope == _scope() and _started(int(pid)) == started and int(pid) != os.getpid()


def _started(pid: int) -> str:
    """Clock tick at which a process began: a number that is used again gets another one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return "ended"
    return stat.rpartition(")")[2].split()[19]


def _scope() -> str:
    """Process numbers mean something within one boot and one container, which host names do not tell apart."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
