import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.tracking.outbox import POINTS, SENT, Outbox, Point


class Server:
    """Takes points, or refuses them while it is away."""

    def __init__(self) -> None:
        self.away = False
        self.requests: list[Sequence[Point]] = []

    def take(self, points: Sequence[Point]) -> None:
        if self.away:
            raise ConnectionError("away")
        self.requests.append(points)

    @property
    def points(self) -> list[Point]:
        return [point for request in self.requests for point in request]


def points(number: int, first: int = 0) -> list[Point]:
    return [Point("loss", 0.1 + step, 1_700_000_000_000 + step, step) for step in range(first, first + number)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2500), st.booleans(), st.booleans()), max_size=6))
def test_every_point_is_sent_once_and_in_order_whatever_dies(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, bool]]
) -> None:
    server, folder = Server(), tmp_path_factory.mktemp("outbox")
    outbox = Outbox(server.take, folder, every_seconds=0.0)
    sent = 0
    logging.disable(logging.WARNING)
    for number, away, dies in steps:
        server.away = away
        outbox.put(points(number, sent))
        sent += number
        if dies:  # between two requests
            outbox._thread.shutdown()
            outbox = Outbox(server.take, folder, every_seconds=0.0)
    server.away = False
    outbox.close()
    logging.disable(logging.NOTSET)
    assert server.points == points(sent)
    assert all(0 < len(request) <= 1000 for request in server.requests)


def test_nothing_is_sent_before_it_is_due(tmp_path: Path) -> None:
    server = Server()
    outbox = Outbox(server.take, tmp_path, every_seconds=3600.0)
    outbox.put(points(999))
    assert server.requests == []
    outbox.close()
    assert [len(request) for request in server.requests] == [999]


def test_logging_does_not_wait_for_a_slow_server(tmp_path: Path) -> None:
    free, taken = threading.Event(), []

    def take(request: Sequence[Point]) -> None:
        free.wait(60)
        taken.append(len(request))

    outbox = Outbox(take, tmp_path, every_seconds=0.0)
    for first in range(3):
        outbox.put(points(1, first))
    assert taken == []
    free.set()
    outbox.close()
    assert sum(taken) == 3


def test_an_outage_is_told_once_at_its_begin_and_at_its_end(tmp_path: Path) -> None:
    server, said = Server(), list[str]()
    outbox = Outbox(server.take, tmp_path, every_seconds=0.0, say=said.append)
    server.away = True
    for step in range(3):
        outbox.put(points(1, step))
        assert outbox._sending is not None
        outbox._sending.result()
    with pytest.raises(ConnectionError):
        outbox.close()
    server.away = False
    outbox.close()
    assert said == [
        f"1 metric values wait in {tmp_path}: the tracking server did not take them: away",
        "the tracking server is back",
    ]
    assert server.points == points(3)


def test_a_line_that_a_dying_process_cut_off_does_not_count(tmp_path: Path) -> None:
    away = Server()
    away.away = True
    Outbox(away.take, tmp_path, every_seconds=3600.0).put(points(3))
    with (tmp_path / POINTS).open("ab") as file:
        file.write(b'["loss", 0.5, 17' + b"0" * 200)
    server = Server()
    outbox = Outbox(server.take, tmp_path, every_seconds=3600.0)
    outbox.put(points(2, 3))
    assert Outbox(server.take, tmp_path, every_seconds=3600.0).unsent(9) == points(5)
    outbox.close()
    assert server.points == points(5)


def test_the_file_does_not_grow_while_the_server_takes_what_comes(tmp_path: Path) -> None:
    server = Server()
    outbox = Outbox(server.take, tmp_path, every_seconds=3600.0)
    for first in range(0, 5000, 1000):
        outbox.put(points(1000, first))
        assert outbox._sending is not None
        outbox._sending.result()
        assert (tmp_path / POINTS).read_bytes() == b""
        assert (tmp_path / SENT).read_text() == "0"
    outbox.close()
    assert server.points == points(5000)
    outbox.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_nothing_ends_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    outbox = Outbox(server.take, tmp_path, every_seconds=3600.0)
    (tmp_path / POINTS).rename(tmp_path / "elsewhere")
    (tmp_path / POINTS).mkdir()
    outbox.put(points(2))
    assert "2 metric values are in memory alone: " in caplog.text
    (tmp_path / POINTS).rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / POINTS)
    outbox.put(points(1, 2))
    outbox.close()
    assert server.points == points(3)
