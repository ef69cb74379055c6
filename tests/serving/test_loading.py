import shutil
from pathlib import Path

import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.registry import BundlePlace
from serving.loading import admit, content_hash, load
from serving.settings import Settings, check_addresses

DIRECTORY = BundlePlace("untrained", None, None, "somewhere", final=True)


def test_a_directory_is_served_under_its_name_and_content(bundle_path: Path, tmp_path: Path) -> None:
    loaded = load(bundle_path, DIRECTORY)
    assert (loaded.name.name, loaded.name.version) == ("untrained", content_hash(bundle_path))
    copy = Path(shutil.copytree(bundle_path, tmp_path / "copy"))
    assert content_hash(copy) == content_hash(bundle_path)
    (copy / "golden.jsonl").write_text((copy / "golden.jsonl").read_text().replace("0.", "0.1", 1))
    assert content_hash(copy) != content_hash(bundle_path)


def test_a_registered_model_is_served_under_its_version(bundle_path: Path) -> None:
    loaded = load(bundle_path, BundlePlace("shop", 3, "run", "somewhere", final=True))
    served = admit(loaded, "champion", "models:/shop@champion")
    assert (served.name.name, served.name.version, served.role) == ("shop", "3", "champion")
    assert served.description.uri == "models:/shop@champion"
    other = served.moved_to("pinned", "models:/shop/3")
    assert (other.role, other.description.uri, other.scorer) == ("pinned", "models:/shop/3", served.scorer)


def test_directories_without_a_bundle_are_found_out_at_once(bundle_path: Path, tmp_path: Path) -> None:
    check_addresses(Settings(model=str(bundle_path), challenger="models:/shop@challenger", pinned=("s3://bucket/b",)))
    with pytest.raises(ConfigError) as error:
        check_addresses(Settings(model=str(tmp_path), challenger=str(tmp_path / "nothing"), pinned=(str(tmp_path),)))
    assert [problem.partition(":")[0] for problem in error.value.problems] == ["model", "challenger", "pinned"]
    assert all("is not a bundle's directory" in problem for problem in error.value.problems)
