"""The pages on which people compare runs and versions, and what must be there."""

from collections.abc import Iterator

from benchmarks.tracking.browser import View
from recsys_mtl.registry import versions
from recsys_mtl.tracking import TrackingConfig, connect
from recsys_mtl.tracking.series import finished_runs

CHAMPION = "champion"


def views(config: TrackingConfig, model: str, task: str) -> Iterator[View]:
    """List the pages of an experiment and of a registered model; charts are those of one event."""
    client = connect(config.uri)
    experiment = client.get_experiment_by_name(config.experiment)
    assert experiment is not None
    runs = finished_runs(config, {})
    names = tuple(run.name for run in runs)
    inputs = client.get_run(runs[-1].run_id).inputs
    data = inputs.dataset_inputs[0].dataset.name if inputs is not None else ""
    listed, last = f"experiments/{experiment.experiment_id}/runs", runs[-1]
    quality = (f"valid/{task}/auc", f"valid/{task}/gauc", f"valid/{task}/logloss")
    yield View("runs", listed, (*names, data, "recsys-mtl"))
    yield View(
        "comparison",
        f"{listed}?compareRunsMode=CHART",
        (*names, *quality),
        search=f"valid/{task}/",
        charts=2 * len(runs),
    )
    one = f"{listed}/{last.run_id}"
    yield View("run", one, (last.name, "data_fingerprint", last.tags["data_fingerprint"], "model.experts.kind"))
    yield View("charts", f"{one}/model-metrics", (last.name, "loss"), search=f"(train|valid)/{task}/", charts=3)
    yield View("machine", f"{one}/system-metrics", ("cpu_utilization_percentage",), charts=2)
    yield View("picture", f"{one}/artifacts/plots/roc_test.png", ("plots/roc_test.png",), picture=True)
    yield View("table", f"{one}/artifacts/quality.json", ("normalized_entropy", task))
    yield from _registered(config.uri, model)


def _registered(uri: str, model: str) -> Iterator[View]:
    known = versions(uri, model)
    best = next(version for version in known if CHAMPION in version.aliases)
    numbers = tuple(f"Version {version.number}" for version in known)
    yield View("model", f"models/{model}", (*numbers, CHAMPION))
    headline = best.description.partition("\n")[0]
    card = ("A multi-task ranking model", "Quality", "Limits")
    yield View(
        "version", f"models/{model}/versions/{best.number}", (f"Version {best.number}", CHAMPION, headline, *card)
    )
