"""Ways to break a training run: each is done to the processes of a run that is under way."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil

WORKER = "RayTrainWorker"
"""What Ray calls the processes that train."""


@dataclass(frozen=True)
class Fault:
    """Something that happens to a run."""

    text: str
    """What is done, for the report."""
    strike: Callable[[psutil.Process], None]
    """Do it, to the process of the command and to those that it has started."""
    ends: bool = False
    """Whether the command ends by it, so that a person or a scheduler gives it again."""
    again: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ when the command is given again."""


def to_worker(number: signal.Signals) -> Callable[[psutil.Process], None]:
    """Send a signal to one of the processes that train."""
    return lambda command: workers(command)[-1].send_signal(number)


def workers(command: psutil.Process) -> list[psutil.Process]:
    """Return the processes that train, which Ray has started for a command."""
    return [child for child in command.children(recursive=True) if WORKER in _title(child)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


FAULTS: Mapping[str, Fault] = {
    "worker-killed": Fault("one of two workers killed (SIGKILL)", to_worker(signal.SIGKILL)),
    "worker-hangs": Fault("one of two workers stopped (SIGSTOP)", to_worker(signal.SIGSTOP)),
    "driver-killed": Fault(
        "the command killed (SIGKILL), and given again", lambda command: command.send_signal(signal.SIGKILL), ends=True
    ),
    "driver-ended": Fault(
        "the command ended (SIGTERM), and given again", lambda command: command.send_signal(signal.SIGTERM), ends=True
    ),
    "fewer-workers": Fault(
        "the command killed, and given again with one worker instead of two",
        lambda command: command.send_signal(signal.SIGKILL),
        ends=True,
        again={"cluster.workers": "1"},
    ),
    "more-workers": Fault(
        "the command killed, and given again with three workers instead of two",
        lambda command: command.send_signal(signal.SIGKILL),
        ends=True,
        again={"cluster.workers": "3"},
    ),
}
