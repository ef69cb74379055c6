"""What MLflow's pages are told of data sets and versions."""

from pathlib import Path

import pytest

from pipelines.described import LENGTH, columns_of, data_set, description
from tests import builders

CARD = """\
# feed

A multi-task ranking model.

## Architecture

| experts.kind | `mmoe` |

## Quality

### valid

AUC 0.71

### test

AUC 0.72

## Limits

- few positives
"""


def test_a_version_is_described_by_its_quality_first_and_without_its_parameters() -> None:
    assert description("test split: click AUC 0.7200", CARD) == (
        "test split: click AUC 0.7200\n\n# feed\n\nA multi-task ranking model.\n\n"
        "## Quality\n\n### test\n\nAUC 0.72\n\n## Limits\n\n- few positives\n\n"
        "The whole card is `bundle/MODEL_CARD.md` among the files of the run.\n"
    )


@pytest.mark.parametrize("title", ["Data", "Calibration", "Expert health"])
def test_what_has_no_room_is_left_out_whole(title: str) -> None:
    long = f"## {title}\n\n" + "x" * LENGTH + "\n\n"
    text = description("line", CARD.replace("## Limits", f"{long}## Limits"))
    assert len(text) <= LENGTH
    assert text == description("line", CARD)


def test_a_data_set_is_named_by_its_folder_and_fingerprint(tmp_path: Path) -> None:
    spec = builders.prepared(tmp_path / "mine", rows=40)
    found = data_set(f"{tmp_path}/mine/", spec)
    assert (found.name, found.digest) == ("mine", spec.fingerprint)
    assert found.rows == {"train": 40, "valid": 40, "test": 40}


def test_columns_are_those_of_the_files(tmp_path: Path) -> None:
    columns = columns_of(builders.prepared(tmp_path / "data", rows=40))
    types = {name: kind["type"] for name, kind in columns.items()}
    assert types["user"] == types["age"] == types["hour"] == "long"  # an age has boundaries, and is an id
    assert types["tags"] == types["history_item"] == types["history_author"] == "array"
    assert types["duration"] == types["click"] == "double"
