"""What a person sees of runs and versions: MLflow's own pages in a real browser, on a server with PostgreSQL."""

import io
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.tracking.browser import View, Window, find_browser, window
from benchmarks.tracking.servers import find_postgres, mlflow_server, postgres
from benchmarks.tracking.views import views
from pipelines.promote import run as promote
from pipelines.run import TrainRun
from pipelines.train import train
from recsys_mtl.config import validate
from recsys_mtl.tracking import TrackingConfig
from tests import builders

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.skipif(find_postgres() is None, reason="no PostgreSQL: apt-get install postgresql"),
    pytest.mark.skipif(find_spec("psycopg") is None, reason="no psycopg: pip install 'recsys-mtl[postgres]'"),
]
NAME = "shown"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingConfig]:
    """Two finished runs of different models, of which the second is champion."""
    home = tmp_path_factory.mktemp("pages")
    builders.prepared(home / "data")
    with postgres() as database, mlflow_server(home, database) as address:
        config = TrackingConfig(uri=address, experiment="feed", buffer=str(home / "unsent"))
        for name, experts in (("ple first", "ple"), ("mmoe second", "mmoe")):
            tree = {
                "data": {"path": str(home / "data")},
                "model": {**builders.MODEL, "experts": {"kind": experts}},
                "trainer": {"batch_size": 64, "epochs": 2, "eval_every": 4},
                "tracking": config.model_dump(),
                "registry": {"name": NAME},
                "run_name": name,
            }
            train(validate(TrainRun, tree), Console(file=io.StringIO()))
        promote(NAME, 2, Console(file=io.StringIO()), force=True, tracking_uri=address)
        yield config


@pytest.fixture(scope="module")
def browser(config: TrackingConfig) -> Iterator[Window]:
    with window(config.uri) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(config: TrackingConfig) -> dict[str, View]:
    return {view.name: view for view in views(config, NAME, "click")}


PAGES = ("runs", "comparison", "run", "charts", "machine", "picture", "table", "model", "version")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_it_should_and_no_errors(
    browser: Window, pages: dict[str, View], name: str, tmp_path: Path
) -> None:
    assert set(pages) == set(PAGES)
    browser.problems.clear()
    browser.show(pages[name])
    assert browser.problems == []
    browser.save(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


@pytest.mark.parametrize(("task", "metric"), [("click", "auc"), ("like", "gauc"), ("watch", "rmse")])
def test_both_runs_are_in_one_chart_of_every_task(
    browser: Window, pages: dict[str, View], task: str, metric: str
) -> None:
    chart = f"valid/{task}/{metric}"
    names = pages["comparison"].texts[:2]
    assert names == ("ple first", "mmoe second")
    legend = tuple(f"{name} ({chart})" for name in names)
    browser.show(replace(pages["comparison"], texts=legend, search=f"^{chart}$", charts=2))
    assert browser.page.get_by_text(f"({chart})").count() == 2


def test_what_is_missing_is_noticed(browser: Window) -> None:
    browser.problems.clear()
    browser.page.goto(f"{browser.address}/ajax-api/2.0/mlflow/runs/get?run_id={'0' * 32}")
    assert [problem.split()[0] for problem in browser.problems] == ["404"]
