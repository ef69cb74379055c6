"""The pages that follow from the programs are in step with them, and every field of theirs is explained somewhere."""

import re

import pytest

from docs import reference
from pipelines.run import TrainRun
from serving.settings import Settings

PAGES = reference.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_in_step(name: str) -> None:
    assert (reference.FOLDER / name).read_text(encoding="utf-8") == PAGES[name], "run `python -m docs.reference`"


def test_there_are_no_other_pages() -> None:
    assert {path.name for path in reference.FOLDER.iterdir()} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_sections(name: str) -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", line[3:].lower()) for line in PAGES[name].splitlines() if line.startswith("## ")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGES[name])) <= headings


@pytest.mark.parametrize("name", PAGES)
def test_every_line_says_what_it_means(name: str) -> None:
    assert [line for line in PAGES[name].splitlines() if line.startswith("|") and re.search(r"\| *\|$", line)] == []


def test_every_field_has_its_line() -> None:
    for definition in TrainRun.model_json_schema()["$defs"].values():
        for field in definition.get("properties", {}):
            assert f"| `{field}` |" in PAGES["training-run.md"]
    for field in Settings.model_fields:
        assert f"| `RECSYS_MTL_{field.upper()}` |" in PAGES["service-settings.md"]
