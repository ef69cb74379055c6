import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.data.encode import Encoder, hash64
from recsys_mtl.data.fit import fit
from recsys_mtl.data.schema import FIRST_ID, MISSING_ID, UNKNOWN_ID
from tests import builders
from tests.unit.data.worlds import HASHED, encoded, encoder


def buckets(*texts: str) -> list[int]:
    return [FIRST_ID + hash64(text) % 1000 for text in texts]


def test_rows_are_numbered_by_falling_frequency_then_text() -> None:
    made = encoder({"x": ["b", "c", "a", "c", None, "b", "d"]})
    assert encoded(made, x=["b", "c", "a", "d"]) == [2, 3, 4, 5]


def test_values_not_seen_and_empty_cells_have_their_rows() -> None:
    made = encoder({"x": ["a"]})
    assert encoded(made, x=["a", "z", None, ""]) == [FIRST_ID, UNKNOWN_ID, MISSING_ID, MISSING_ID]


def test_rare_values_are_unknown() -> None:
    made = encoder({"x": ["a", "a", "b", "c", "c"]}, tables={"x": {"encoding": {"kind": "vocabulary", "min_count": 2}}})
    assert encoded(made, x=["a", "b", "c"]) == [2, UNKNOWN_ID, 3]


def test_a_size_limit_keeps_the_most_frequent() -> None:
    made = encoder({"x": ["a", "b", "b", "c"]}, tables={"x": {"encoding": {"kind": "vocabulary", "max_size": 2}}})
    assert encoded(made, x=["a", "b", "c"]) == [3, 2, UNKNOWN_ID]


def test_a_default_stands_in_for_empty_cells_and_has_a_row_of_its_own() -> None:
    made = encoder({"x": ["a", None, None]}, {"default": "none"})
    assert encoded(made, x=[None, "none", "a", ""]) == [2, 2, 3, 2]


def test_a_default_that_training_never_needed_is_unknown() -> None:
    assert encoded(encoder({"x": ["a"]}, {"default": 0}), x=[None, 0]) == [UNKNOWN_ID, UNKNOWN_ID]


def test_a_hashed_default() -> None:
    made = encoder({"x": ["a"]}, {"default": 7.0}, tables={"x": HASHED})
    assert encoded(made, x=[None, "7", "a"]) == buckets("7", "7", "a")


def test_a_column_that_is_absent_is_missing_in_every_row() -> None:
    made = encoder(
        {"x": ["a"], "y": [[1]], "n": [1.0]}, {}, {"kind": "ids", "name": "y"}, {"kind": "number", "name": "n"}
    )
    table = made.encode(pa.table({"other": [1, 2]}))
    assert table.to_pydict() == {"x": [MISSING_ID] * 2, "y": [[], []], "n": [0.0, 0.0]}


def test_hashing_is_xxh64_with_seed_0() -> None:
    assert [hash64(text) for text in ("", "a", "abc")] == [0xEF46DB3751D8E999, 0xD24EC4F1A98C6E5B, 0x44BC2CF5AD770999]
    assert encoded(encoder({"x": [1]}, tables={"x": HASHED}), x=["a", "abc"]) == [
        FIRST_ID + 0xD24EC4F1A98C6E5B % 1000,
        FIRST_ID + 0x44BC2CF5AD770999 % 1000,
    ]


PROGRAM = """
import json, sys
from pathlib import Path
import pyarrow as pa
from recsys_mtl.data.encode import Encoder
raw = pa.table({name: pa.array(cells) for name, cells in json.loads(sys.argv[2]).items()})
print(json.dumps(Encoder.load(Path(sys.argv[1])).encode(raw).to_pydict()))
"""


def test_another_process_encodes_alike(tmp_path: Path) -> None:
    features: tuple[dict[str, Any], ...] = ({}, {"name": "h"}, {"kind": "number", "name": "n", "standardise": True})
    made = encoder({"x": ["a", "b", "b"], "h": [1, 2, 3], "n": [0.1, 0.7, 3.0]}, *features, tables={"h": HASHED})
    made.save(tmp_path)
    raw = {"x": ["b", "z", None], "h": ["1", "new", ""], "n": [0.3, 1e9, -2.0]}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(raw)]
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": str(Path(__file__).parents[3])}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    assert json.loads(output) == made.encode(pa.table(raw)).to_pydict()


def test_what_is_saved_encodes_alike_and_has_the_same_fingerprint(tmp_path: Path) -> None:
    raw = builders.raw_table(200, 1)
    made = Encoder(*fit(builders.schema(), [raw]))
    made.save(tmp_path)
    loaded = Encoder.load(tmp_path)
    assert loaded.spec == made.spec
    assert loaded.vocabularies == made.vocabularies
    assert loaded.encode(builders.raw_table(50, 2)) == made.encode(builders.raw_table(50, 2))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "spec.yaml").unlink(), r"spec\.yaml: No such file or directory$"),
        (
            lambda d: (d / "spec.yaml").write_text("features: []\n"),
            r"spec\.yaml: features: tuple should have at least 1",
        ),
        (lambda d: (d / "vocab" / "item.parquet").unlink(), r"vocab/item\.parquet: not readable as a vocabulary: "),
        (lambda d: (d / "vocab" / "item.parquet").write_bytes(b"x"), r"vocab/item\.parquet: not readable as a vocab"),
        (
            lambda d: shutil.copy(d / "vocab" / "hour.parquet", d / "vocab" / "item.parquet"),
            r"vocab/item\.parquet: has \d+ values where .*spec\.yaml expects \d+$",
        ),
        (
            lambda d: pq.write_table(pa.table({"other": [1]}), d / "vocab" / "item.parquet"),
            r"vocab/item\.parquet: not readable as a vocabulary: ",
        ),
    ],
    ids=["no spec", "broken spec", "no vocabulary", "broken vocabulary", "another vocabulary", "another file"],
)
def test_damage_is_named(damage: Any, message: str, tmp_path: Path) -> None:
    Encoder(*fit(builders.schema(), [builders.raw_table(200, 1)])).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ConfigError, match=message):
        Encoder.load(tmp_path)
