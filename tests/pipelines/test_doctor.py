"""The doctor on installs that are broken in the known ways, on programs that fail, and on this installation."""

from pathlib import Path

import pytest

from pipelines import doctor

GOOD = {"torch": "2.13.0+cpu", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0", "torchmetrics": "1.0.3"}


def without(*names: str) -> dict[str, str]:
    return {name: version for name, version in GOOD.items() if name not in names}


@pytest.mark.parametrize(
    "versions",
    [
        GOOD,
        {"torch": "2.12.1+cpu", "torchrec": "1.7.0", "fbgemm-gpu-cpu": "1.7.0"},
        {"torch": "2.14.1", "torchrec": "1.9.0", "fbgemm-gpu": "1.9.0"},
        {"torch": "2.13.0", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"},  # a CUDA torch runs the CPU operators too
    ],
)
def test_releases_made_for_each_other_are_ok(versions: dict[str, str]) -> None:
    check = doctor.check_torchrec(versions)
    assert check.ok
    assert check.message == ", ".join(f"{name} {v}" for name, v in versions.items() if name != "torchmetrics")


@pytest.mark.parametrize(
    ("versions", "problem", "fix"),
    [
        (without("torch"), "torch is not installed", "make setup"),
        (GOOD | {"torch": "2.11.0"}, "torch 2.11.0 has no torchrec made for it", "make setup"),
        (
            GOOD | {"fbgemm-gpu": "1.9.0"},
            "fbgemm-gpu-cpu and fbgemm-gpu are installed over each other",
            "pip uninstall -y fbgemm-gpu-cpu fbgemm-gpu && pip install --no-deps fbgemm-gpu-cpu==1.8.0",
        ),
        (
            without("fbgemm-gpu-cpu") | {"fbgemm-gpu": "1.8.0"},
            "fbgemm-gpu is the CUDA build, which torch 2.13.0+cpu cannot load",
            "pip uninstall -y fbgemm-gpu && pip install --no-deps fbgemm-gpu-cpu==1.8.0",
        ),
        (without("fbgemm-gpu-cpu"), "fbgemm is not installed", "pip install --no-deps fbgemm-gpu-cpu==1.8.0"),
        (without("torchrec"), "torchrec is not installed", "pip install --no-deps torchrec==1.8.0"),
        (GOOD | {"torchrec": "1.9.0"}, "torchrec is 1.9.0", "pip install --no-deps torchrec==1.8.0"),
        (
            GOOD | {"torch": "2.14.0+cpu"},
            "torchrec is 1.8.0 and fbgemm-gpu-cpu is 1.8.0",
            "pip install --no-deps torchrec==1.9.0 fbgemm-gpu-cpu==1.9.0",
        ),
    ],
)
def test_a_broken_stack_gets_one_sentence_and_the_command(versions: dict[str, str], problem: str, fix: str) -> None:
    check = doctor.check_torchrec(versions)
    assert not check.ok
    assert problem in check.message
    assert f"{fix}`" in check.message
    assert "\n" not in check.message


@pytest.mark.parametrize("versions", [GOOD | {"torchmetrics": "1.9.0"}, without("torchmetrics")])
def test_torchmetrics_is_pinned_by_torchrec(versions: dict[str, str]) -> None:
    check = doctor.check_torchmetrics(versions)
    assert not check.ok
    assert check.message.endswith("run `pip install torchmetrics==1.0.3`")


def test_an_old_python_is_named() -> None:
    check = doctor.check_python((3, 10, 4))
    assert not check.ok
    assert check.message.startswith("3.10.4 is too old")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ImportError('libtorch_cuda.so: cannot open')", "fails with ImportError: libtorch_cuda.so: cannot open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "fails with SIGSEGV"),
        ("raise SystemExit(3)", "fails with no message"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
    ],
)
def test_a_part_that_dies_is_a_finding(code: str, message: str) -> None:
    check = doctor.check_probe("part", code, seconds=1.0)
    assert not check.ok
    assert check.message.startswith(message)


def test_a_part_that_works_says_its_last_line() -> None:
    check = doctor.check_probe("part", "print('chatter'); print('1.2.3'); print()")
    assert check == doctor.Check("part", True, "1.2.3")


def test_too_little_room_says_what_to_do(tmp_path: Path) -> None:
    tight = [
        doctor.check_shared_memory(tmp_path, need=1e9),
        doctor.check_disk(tmp_path, need=1e9),
        doctor.check_processors(need=10**6),
        doctor.check_memory(need=1e9),
    ]
    assert not any(check.ok for check in tight)
    assert all(": " in check.message for check in tight)


def test_no_shared_memory_file_system_is_no_fault(tmp_path: Path) -> None:
    assert doctor.check_shared_memory(tmp_path / "shm").ok


def test_one_failed_check_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [doctor.Check("ray", True, "2.60.0"), doctor.Check("disk", False, "full: delete [something]")]
    monkeypatch.setattr(doctor, "checks", lambda: found)
    assert doctor.run() == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok    ray            2.60.0",
        "FAIL  disk           full: delete [something]",
    ]


@pytest.mark.slow
def test_this_installation_is_sound(tmp_path: Path) -> None:
    found = {check.name: check for check in doctor.checks(tmp_path)}
    packages = ["python", "torchrec", "torchmetrics", "fbgemm", "ray", "mlflow"]
    assert [found[name].message for name in packages if not found[name].ok] == []
    assert {"shared memory", "disk", "processors", "memory"} == found.keys() - set(packages)
