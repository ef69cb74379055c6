"""Results on disk."""

import json
import math
from pathlib import Path

import pytest

from benchmarks.results import Store, digest, plain, slug, write_whole


def test_a_result_is_found_by_all_that_decides_about_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    settings = {"model": {"kind": "mmoe", "sizes": [8, 4]}, "seed": 0}
    assert store.find("MMoE", settings) is None
    saved = store.save("MMoE", settings, {"auc": 0.5, "gauc": math.nan})
    assert saved == {"auc": 0.5, "gauc": None}
    assert store.find("MMoE", {"seed": 0, "model": {"sizes": [8, 4], "kind": "mmoe"}}) == saved
    assert store.find("MMoE", settings | {"seed": 1}) is None
    assert store.find("MMoE*", settings) is None


def test_files_are_strict_json(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("a", 1, {"values": [math.inf, {"x": -math.inf}, 1.5, "nan", 3]})
    text = store.path("a", 1).read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found == {"values": [None, {"x": None}, 1.5, "nan", 3]}


def test_a_file_is_replaced_as_a_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "file", "first")
    write_whole(tmp_path / "new" / "file", "second")
    assert [(path.name, path.read_text()) for path in (tmp_path / "new").iterdir()] == [("file", "second")]


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1, "b": [1, 2]}) != digest({"a": 1, "b": [2, 1]})


def test_names_of_files_keep_models_apart() -> None:
    names = ["MMoE", "MMoE*", "DTRN+MMoE", "PLE is_click-lr0.001-seed0", "HoME without masks"]
    found = [slug(name) for name in names]
    assert len(set(found)) == len(names)
    assert not [name for name in found if set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")]


def test_plain_leaves_other_values_alone() -> None:
    tree = {"a": [1, 2.5, None, True, "x"], "b": {"c": ()}}
    assert plain(tree) == {"a": [1, 2.5, None, True, "x"], "b": {"c": []}}
