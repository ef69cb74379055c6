"""The images: linted, small in what they are built from, and what the chart expects of them."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.chart import charts
from tests.pins import REQUIREMENTS, pins

DOCKERFILES = sorted((charts.ROOT / "docker").glob("*.Dockerfile"))
COMMANDS = {"mlflow", "python", "recsys-mtl", "sleep"}
"""What the chart starts; the last one is Debian's."""


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions and what is behind them."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for line in joined.splitlines() if line for name, _, rest in [line.partition(" ")]]


def stages(dockerfile: Path) -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage."""
    found: list[list[tuple[str, str]]] = [[]]
    for name, rest in instructions(dockerfile):
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found[1:]


def copied(dockerfile: Path) -> list[str]:
    """Return what an image is built from."""
    lines = [rest for name, rest in instructions(dockerfile) if name == "COPY" and not rest.startswith("--from")]
    return [source for line in lines for source in line.split()[:-1]]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_the_linter_finds_nothing(dockerfile: Path) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, dockerfile], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_finds_something_where_there_is_something(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM python:latest\nRUN pip install torch\n")
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, dockerfile], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "DL3007" in done.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_built_in_two_stages_on_a_pinned_base(dockerfile: Path) -> None:
    build, final = stages(dockerfile)
    (base,) = [rest for name, rest in instructions(dockerfile) if name == "ARG" and rest.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-\w+", base)
    assert [build[0], final[0]] == [("FROM", "${BASE} AS build"), ("FROM", "${BASE}")]
    assert not any("pip " in rest for name, rest in final if name == "RUN")
    assert ("COPY", "--from=build /opt/venv /opt/venv") in final


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_the_user_that_the_chart_says(dockerfile: Path) -> None:
    (user,) = [rest for name, rest in stages(dockerfile)[-1] if name == "USER"]
    for pod in charts.pods(charts.objects("aws-s3")).values():
        context = pod["spec"]["securityContext"]
        assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_everything_that_is_installed_is_pinned(dockerfile: Path) -> None:
    text = dockerfile.read_text().replace("$DEVICE", "cpu")
    files = set(re.findall(r"-r \"?requirements/([\w.-]+\.txt)", text))
    assert (
        files
        == {
            "training": {"cpu.txt", "mlflow-server.txt", "nodeps-cpu.txt"},
            "serving": {"serving.txt", "nodeps-cpu.txt"},
        }[dockerfile.stem]
    )
    assert all((REQUIREMENTS / file).is_file() for file in files)
    assert len(re.findall(r"pip install", text)) == 3  # what is pinned, those without dependencies, and ourselves


def test_the_images_differ_in_ray() -> None:
    assert "ray" in pins("cpu.txt")
    assert "ray" not in pins("serving.txt")
    assert pins("serving.txt").items() <= pins("cpu.txt").items()


def test_images_are_built_from_what_is_not_ignored_and_from_nothing_else() -> None:
    first, *allowed = [
        line for line in (charts.ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert first == "*"
    opened = {line.removeprefix("!") for line in allowed if line.startswith("!")}
    sources = {source.split("/")[0] for dockerfile in DOCKERFILES for source in copied(dockerfile)}
    assert sources == opened
    assert all((charts.ROOT / source).exists() for dockerfile in DOCKERFILES for source in copied(dockerfile))


@pytest.mark.slow
def test_what_is_copied_is_enough_to_install_this_package(tmp_path: Path) -> None:
    for source in copied(charts.ROOT / "docker" / "serving.Dockerfile"):
        there = charts.ROOT / source
        copy = shutil.copytree if there.is_dir() else shutil.copy
        copy(there, tmp_path / source)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
    ]
    done = subprocess.run([*pip, "."], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("recsys_mtl-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"serving/run.py", "pipelines/kuberay.py", "recsys_mtl/py.typed"} <= set(names)
    assert "pipelines/configs/models/home.yaml" in names


def test_the_chart_starts_what_the_images_have() -> None:
    started = set()
    for case in charts.VALUES:
        for container in charts.containers(charts.objects(case)).values():
            started |= {container["command"][0]} if "command" in container else set()
            started |= {container["lifecycle"]["preStop"]["exec"]["command"][0]} if "lifecycle" in container else set()
    started |= {job["spec"]["entrypoint"].split()[0] for job in charts.of_kind(charts.objects("aws-s3"), "RayJob")}
    assert started == COMMANDS
    for command in COMMANDS - {"sleep"}:
        assert (Path(sys.executable).parent / command).exists()  # the pinned packages have it
    assert ("ENTRYPOINT", '["python", "-m", "serving"]') in instructions(charts.ROOT / "docker" / "serving.Dockerfile")
