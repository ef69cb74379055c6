import shutil
from pathlib import Path

import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.registry import BundlePlace, Fetched
from serving import loading
from serving.loading import content_hash, load
from serving.settings import Settings, check_address


def test_a_directory_is_served_under_its_name_and_content(bundle_path: Path, tmp_path: Path) -> None:
    loaded = load(Settings(model=str(bundle_path)))
    assert (loaded.name.name, loaded.name.version) == ("untrained", content_hash(bundle_path))
    copy = Path(shutil.copytree(bundle_path, tmp_path / "copy"))
    assert content_hash(copy) == content_hash(bundle_path)
    (copy / "golden.jsonl").write_text((copy / "golden.jsonl").read_text().replace("0.", "0.1", 1))
    assert content_hash(copy) != content_hash(bundle_path)


def test_a_registered_model_is_fetched_and_served_under_its_version(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(uri: str, tracking_uri: str, *, into: Path) -> Fetched:
        asked.append((uri, tracking_uri, into))
        return Fetched(bundle_path, BundlePlace("shop", 3, "run", "somewhere", final=True))

    monkeypatch.setattr(loading, "fetch", fetch)
    settings = Settings(model="models:/shop@champion", tracking_uri="http://mlflow:5000", cache_dir=tmp_path)
    loaded = load(settings)
    assert asked == [("models:/shop@champion", "http://mlflow:5000", tmp_path)]
    assert (loaded.name.name, loaded.name.version, loaded.uri) == ("shop", "3", "models:/shop@champion")


def test_a_directory_without_a_bundle_is_found_out_at_once(bundle_path: Path, tmp_path: Path) -> None:
    check_address(str(bundle_path))
    check_address("models:/shop@champion")
    check_address("s3://bucket/bundle")
    for address in (str(tmp_path), str(tmp_path / "nothing")):
        with pytest.raises(ConfigError, match="is not a bundle's directory"):
            check_address(address)
