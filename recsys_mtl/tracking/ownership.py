"""The process that owns a run: who it is, whether it lives, and how it takes the order to stop."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def owner() -> str:
    """Name this process so that others on this machine can tell later whether it still lives."""
    return f"{os.getpid()} {_started(os.getpid())} {_scope()} {socket.gethostname()}"


def is_gone(name: str) -> bool:
    """Tell whether the process of that name has ended; False where that cannot be known from here."""
    pid, started, scope, _ = name.split(" ", 3)
    return scope == _scope() and _started(int(pid)) != started


def is_another(name: str) -> bool:
    """Tell whether the name is that of another process that is known to live."""
    pid, started, scope, _ = name.split(" ", 3)
    return scope == _scope() and _started(int(pid)) == started and int(pid) != os.getpid()


def _started(pid: int) -> str:
    """Clock tick at which a process began, which tells it from a later one of the same number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return "never"
    return stat.rpartition(")")[2].split()[19]


def _scope() -> str:
    """Process numbers mean something within one boot and one container, which host names do not tell apart."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"


class Stopped(SystemExit):
    """The process was told to stop, by ``kill``, a scheduler, or a terminal that went away."""


@contextmanager
def stop_signals_raise() -> Iterator[None]:
    """Let orders to stop unwind the program like Ctrl-C does: by default they end it without a word.

    Handlers that somebody else has set stay; Ray's raises SystemExit. So do ignored signals, as under nohup.
    """
    main = threading.current_thread() is threading.main_thread()
    mine = [number for number in STOP_SIGNALS if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in mine:
            if signal.getsignal(number) is _stop:
                signal.signal(number, signal.SIG_DFL)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    raise Stopped(128 + number)


def was_stopped(error: BaseException) -> bool:
    """Tell an order to stop, as Ctrl-C, this module and Ray raise it, from a failure."""
    codes = {code for number in STOP_SIGNALS for code in (number, 128 + number)}
    return isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code in codes)
