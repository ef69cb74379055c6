"""Checkpoints of one process: what is written comes back, what stays, and what happens if a place refuses."""

import logging
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from recsys_mtl.config import ConfigError, validate
from recsys_mtl.storage import Location, locate
from recsys_mtl.training.checkpoint import CheckpointConfig, Checkpoints, DamagedCheckpointError
from recsys_mtl.training.select import SelectConfig
from recsys_mtl.training.shelf import MARK
from tests.s3 import ObjectStore, object_store

BIG = 100_000
"""Numbers in the large tensor: several times what a full disk still takes in these tests."""


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "disk":
        return locate(tmp_path) / "run"
    address = request.getfixturevalue("store").address
    return locate(f"{address}/{tmp_path.name}/run")


def make(place: Location, *, select: SelectConfig = SelectConfig(), **config: Any) -> Checkpoints:  # noqa: B008  frozen
    return Checkpoints(place, CheckpointConfig(every_steps=1, **config), settings={"seed": 1}, select=select)


def tensors(seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    return {"model": {"weight": torch.randn(3), "table": torch.randn(BIG)}, "dense": {"step": torch.tensor(1.0 * seed)}}


def write(checkpoints: Checkpoints, step: int, value: float | None = None) -> bool:
    checkpoints.save(step, tensors(step), {}, value=value)
    return checkpoints.finish()


def steps(place: Location) -> list[int]:
    return [int(directory.name.removeprefix("step-")) for directory in place.children("step-*")]


def newest(checkpoints: Checkpoints) -> int:
    saved = checkpoints.latest()
    assert saved is not None
    return saved.step


@contextmanager
def full_disk(left: int = BIG) -> Iterator[None]:
    """No file may have more bytes: the system refuses the next one, as it does on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.parametrize("asynchronous", [True, False])
def test_tensors_and_progress_come_back(place: Location, asynchronous: bool) -> None:
    checkpoints = make(place, asynchronous=asynchronous)
    assert checkpoints.latest() is None
    checkpoints.save(7, tensors(7), {"note": [1.5, None]}, constant={"best": {"weight": torch.ones(2)}})
    assert checkpoints.finish()
    saved = checkpoints.latest()
    assert saved is not None
    assert (saved.step, saved.progress) == (7, {"note": [1.5, None]})
    found = tensors() | {"best": {"weight": torch.zeros(2)}}
    checkpoints.load(saved, found)
    assert torch.equal(found["model"]["table"], tensors(7)["model"]["table"])
    assert found["dense"]["step"] == 7
    assert torch.equal(found["best"]["weight"], torch.ones(2))


def test_what_is_written_is_what_there_was_when_the_save_began(tmp_path: Path) -> None:
    checkpoints = make(locate(tmp_path))
    assert checkpoints.background is not None
    go = threading.Event()
    checkpoints.background.start(lambda _: go.wait(timeout=60))
    state, progress = tensors(1), {"notes": ["before"]}
    checkpoints.save(1, state, progress)
    state["model"]["table"].zero_()
    progress["notes"].append("after")
    assert checkpoints.latest() is None, "nothing counts before it is whole"
    go.set()
    assert checkpoints.finish()
    saved = checkpoints.latest()
    assert saved is not None
    assert saved.progress == {"notes": ["before"]}
    checkpoints.load(saved, state)
    assert torch.equal(state["model"]["table"], tensors(1)["model"]["table"])


def test_the_newest_are_kept_and_what_is_not_complete_does_not_count(place: Location) -> None:
    checkpoints = make(place, keep=2)
    for step in (5, 10, 100, 1000):
        assert write(checkpoints, step)
    assert steps(place) == [100, 1000]
    (place / "step-000001000" / MARK).remove()  # as a run leaves it that is stopped while it writes
    assert newest(checkpoints) == 100
    assert write(checkpoints, 400)
    assert steps(place) == [100, 400], "half a checkpoint is cleaned away"


@pytest.mark.parametrize(("mode", "best"), [("max", [2, 4]), ("min", [1, 3])])
def test_the_best_are_kept_beside_the_newest(tmp_path: Path, mode: str, best: list[int]) -> None:
    place = locate(tmp_path)
    checkpoints = make(place, keep=1, keep_best=2, select=validate(SelectConfig, {"mode": mode}))
    values = {1: 0.5, 2: 0.9, 3: 0.6, 4: 0.8, 5: float("nan"), 6: None, 7: 0.7}
    for step, value in values.items():
        assert write(checkpoints, step, value)
        assert step in steps(place)
    assert steps(place) == [*best, 7]


def test_what_is_newer_than_the_last_save_is_of_a_course_that_was_left(tmp_path: Path) -> None:
    checkpoints = make(locate(tmp_path), keep=2)
    for step in (4, 8, 12):
        write(checkpoints, step)
    assert write(checkpoints, 10)
    assert steps(locate(tmp_path)) == [8, 10]


def test_the_best_need_checkpoints() -> None:
    with pytest.raises(ConfigError, match="keep_best needs every_steps"):
        validate(CheckpointConfig, {"keep_best": 1})


def test_a_run_with_other_settings_is_refused(tmp_path: Path) -> None:
    config, place = CheckpointConfig(every_steps=1), locate(tmp_path)
    write(Checkpoints(place, config, settings={"seed": 1, "optim": {"dense": {"lr": 0.1}}}), 3)
    other = Checkpoints(place, config, settings={"seed": 1, "optim": {"dense": {"lr": 0.2}}})
    with pytest.raises(ConfigError) as caught:
        other.latest()
    assert caught.value.problems == ("optim.dense.lr: was 0.1 when the run began, is 0.2 now; use another run_name",)


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "removed", "without metadata"])
def test_damaged_checkpoints_are_refused(place: Location, damage: str) -> None:
    checkpoints = make(place)
    write(checkpoints, 3)
    saved = checkpoints.latest()
    assert saved is not None
    (file,) = saved.directory.children("*.distcp")
    content = file.read_bytes()
    half = len(content) // 2
    if damage in {"removed", "without metadata"}:
        (file if damage == "removed" else saved.directory / ".metadata").remove()
    else:
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        file.write_bytes({"cut": content[:half], "emptied": b"", "flipped": flipped}[damage])
    with pytest.raises(
        DamagedCheckpointError, match=r"step-000000003: .*; remove it, and the run goes on from the one before"
    ):
        checkpoints.load(saved, tensors())


@pytest.mark.parametrize("foreign", [{"model": {"weight": torch.zeros(4)}}, {"model": {"another": torch.zeros(3)}}])
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, foreign: dict[str, Any]) -> None:
    checkpoints = make(locate(tmp_path))
    write(checkpoints, 3)
    saved = checkpoints.latest()
    assert saved is not None
    with pytest.raises(DamagedCheckpointError, match="step-000000003: "):
        checkpoints.load(saved, foreign)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_full_disk_costs_one_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture, asynchronous: bool) -> None:
    place = locate(tmp_path)
    checkpoints = make(place, keep=1, asynchronous=asynchronous)
    assert write(checkpoints, 1)
    with caplog.at_level(logging.WARNING), full_disk():
        assert not write(checkpoints, 2)
    assert "checkpoint of step 2 could not be written" in caplog.text
    assert "File too large" in caplog.text
    assert steps(place) == [1], "the one before stays, and nothing of the other"
    assert write(checkpoints, 3)
    assert steps(place) == [3]


@pytest.mark.slow
def test_a_store_that_answers_with_errors_costs_checkpoints(
    store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    place = locate(f"{store.address}/busy")
    checkpoints = make(place, keep=1)
    assert write(checkpoints, 1)
    saved = checkpoints.latest()
    assert saved is not None
    store.busy_for(sys.maxsize)
    try:
        with caplog.at_level(logging.WARNING):
            assert not write(checkpoints, 2)
        with pytest.raises(ConfigError, match=f"{store.address}/busy") as caught:
            checkpoints.load(saved, tensors())
        assert not isinstance(caught.value, DamagedCheckpointError), "it may be whole"
    finally:
        store.busy_for(0)
    assert "checkpoint of step 2 could not be written" in caplog.text
    assert newest(checkpoints) == 1
    assert write(checkpoints, 3)
    assert steps(place) == [3]


@pytest.mark.slow
def test_a_store_that_is_gone_costs_checkpoints_and_is_named_at_a_resume() -> None:
    with object_store() as mortal:
        checkpoints = make(locate(f"{mortal.address}/gone"))
        assert write(checkpoints, 1)
        mortal.stop()
        assert not write(checkpoints, 2)
        with pytest.raises(ConfigError, match=f"{mortal.address}/gone.*: nobody answers"):
            checkpoints.latest()
