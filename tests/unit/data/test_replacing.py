import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.data.replacing import replacing
from tests.unit.data.worlds import names


def write(out: Path, text: str) -> None:
    with replacing(out) as directory:
        (directory / "file").write_text(text)


def test_a_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with replacing(out) as directory:
        (directory / "file").write_text("1")
        assert not out.exists()
        assert directory.parent == out.parent  # the same file system, or it could not be renamed
    assert (out / "file").read_text() == "1"
    assert names(out.parent) == ["b"]


def test_an_old_directory_is_replaced_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "old")
    with replacing(out) as directory:
        (directory / "other").write_text("new")
        assert names(out) == ["file"]
    assert names(out) == ["other"]
    assert names(tmp_path) == ["out"]


def write_half(out: Path, error: type[BaseException]) -> None:
    with replacing(out) as directory:
        (directory / "file").write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_after_an_error_all_is_as_it_was(error: type[BaseException], tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "old")
    with pytest.raises(error):
        write_half(out, error)
    assert (out / "file").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_the_directory_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    write(tmp_path / "out", "")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_keeps_pointing_at_what_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "disk" / "target", "old")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "target")
    write(tmp_path / "out", "new")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "target" / "file").read_text() == "new"
    assert names(tmp_path) == ["disk", "out"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/out: Not a directory$|file/out: File exists$"):
        write(tmp_path / "file" / "out", "")


PROGRAM = """
import sys, time
from pathlib import Path
from recsys_mtl.data.replacing import replacing
from tests.unit.data.worlds import names
with replacing(Path(sys.argv[1])) as directory:
    (directory / "file").write_text("half")
    print(directory, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_but_not_what_a_living_one_writes(tmp_path: Path) -> None:
    out = tmp_path / "o[u]t*"  # a name that is no pattern
    write(out, "old")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", PROGRAM, str(out)]
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        left, writing = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (out / "file").read_text() == "old"
        assert (left / "file").read_text() == "half"
        write(out, "new")
        assert (out / "file").read_text() == "new"
        assert names(tmp_path) == sorted([out.name, writing.name])
        living.kill()
    write(out, "newer")
    assert names(tmp_path) == [out.name]
