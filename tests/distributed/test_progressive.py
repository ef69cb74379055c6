"""Progressive runs: what a model is worth on a day, measured before it learns the day."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.calibrate import calibrate, rows_of
from pipelines.grown import grown
from pipelines.run import TrainRun
from pipelines.train import preflight
from recsys_mtl.bundle import Bundle
from recsys_mtl.calibration import mean_chance
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.batch import Batch, BatchLayout, collate
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.labels import GROUP, encode_targets
from recsys_mtl.data.reader import EvalReader, Worker
from recsys_mtl.data.shards import row_groups
from recsys_mtl.training.evaluate import evaluate
from tests import builders, days
from tests.distributed.processes import run_workers

PROGRESSIVE = {"batch_size": 32, "eval_batch_size": 50, "progressive": True}
ROWS = 400  # enough events for a calibration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and its model; a day that was first predicted and then learnt, by two workers."""
    path = tmp_path_factory.mktemp("progressive")
    days.write_days(path, rows=ROWS)
    (path / "day").mkdir()
    run_workers(2, path, days.train_bundle, days.make_run(path / "base"), path)
    return path


@pytest.fixture(scope="module")
def ear(home: Path) -> days.Ear:
    run = days.make_run(day_of(home), init_from=str(home / "bundle"), trainer=PROGRESSIVE)
    preflight(run)
    found: days.Ear = run_workers(2, home, days.train_bundle, run, home / "day")[0]
    return found


def day_of(home: Path) -> Path:
    return home / days.FIRST.isoformat()


def raw_batch(bundle: Bundle) -> Batch:
    """The day's raw rows as the earlier bundle encodes them."""
    raw = builders.raw_table(ROWS, 50)
    spec = bundle.encoder.spec
    encoded = encode_targets(spec, raw, bundle.encoder.encode(raw)).sort_by(GROUP)
    return collate(encoded, BatchLayout.of(spec, bundle.tasks))


@pytest.mark.dist
def test_a_day_is_measured_with_the_earlier_model_as_it_served(home: Path, ear: days.Ear) -> None:
    before = Bundle.load(home / "bundle")
    batches, tasks, device = [raw_batch(before)], before.manifest.tasks, torch.device("cpu")
    expected = evaluate(before.model, batches, tasks, device, before.calibration).compute()
    assert ear.first_look.keys() == expected.keys()
    for task, metrics in expected.items():
        assert ear.first_look[task] == pytest.approx(metrics, rel=1e-6, nan_ok=True)
    assert ear.first_look["click"]["rows"] == ROWS
    uncalibrated = evaluate(before.model, batches, tasks, device, halves=True)
    after = Bundle.load(home / "day" / "bundle")
    for task, fitted in calibrate(uncalibrated, "platt").calibration.tasks.items():
        found, wanted = (one.model_dump() for one in (after.calibration.tasks[task], fitted))
        assert found.pop("kind") == wanted.pop("kind")
        assert found == pytest.approx(wanted, rel=1e-3)
    assert after.calibration.tasks["click"].kind == "platt"


@pytest.mark.dist
def test_the_last_weights_are_kept_and_the_bundle_says_what_its_metrics_are(home: Path, ear: days.Ear) -> None:
    before, after = Bundle.load(home / "bundle"), Bundle.load(home / "day" / "bundle")
    assert ear.evaluations == 0
    metrics = days.metrics_of(home / "day" / "bundle")
    assert metrics["progressive"] == metrics["test"] == metrics["valid"]
    assert metrics["test"]["click"]["auc"] == pytest.approx(ear.first_look["click"]["auc"])
    card = (home / "day" / "bundle" / "MODEL_CARD.md").read_text()
    assert "### progressive" in card
    assert "All rows are of 2022-04-22" in card
    assert f"{-(-ROWS // 32)} |" in card.partition("| steps | ")[2]
    weights = after.model.state_dict()
    old = before.model.state_dict()
    assert not torch.equal(weights["ranker.bottom.mlp.0.weight"], old["ranker.bottom.mlp.0.weight"])
    users = weights["embeddings.pooled.embedding_bags.user.weight"]
    known = before.encoder.spec.rows["user"]
    assert not torch.equal(users[known:], users[:1].expand(len(users) - known, -1)), "new users were learnt"


@pytest.mark.dist
def test_calibrators_promise_as_much_of_held_out_rows_as_before_the_others_were_learnt(home: Path) -> None:
    data = days.add_day(home, days.FIRST.replace(day=25), home / "base", seed=50, rows=ROWS, hold_out=0.3)
    (home / "held").mkdir()
    run = days.make_run(data, init_from=str(home / "bundle"), trainer=PROGRESSIVE)
    run_workers(2, home, days.train_bundle, run, home / "held")
    before, after = grown(Bundle.load(home / "bundle"), Encoder.load(data)), Bundle.load(home / "held" / "bundle")
    tasks, device = before.manifest.tasks, torch.device("cpu")
    layout = BatchLayout.of(before.encoder.spec, before.tasks)
    banks = {
        (name, split): evaluate(
            model.model,
            EvalReader(row_groups(data, split), layout, batch_size=999, worker=Worker()),
            tasks,
            device,
            halves=True,
        )
        for name, model in (("before", before), ("after", after))
        for split in ("valid", "test")
    }
    fitted = calibrate(banks["before", "test"], "platt")
    promised = fitted.means(banks["before", "valid"])
    now = {
        task: mean_chance(after.calibration.tasks[task], *rows_of(banks["after", "valid"], task)) for task in promised
    }
    assert now == pytest.approx(promised, rel=1e-4)
    stale = {
        task: mean_chance(c.calibrator, *rows_of(banks["after", "valid"], task)) for task, c in fitted.choices.items()
    }
    assert stale["click"] != pytest.approx(promised["click"], rel=1e-2), "learning moved the level"


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to begin with": ({"init_from": None}, r"init_from: field required: trainer\.progressive tests the model"),
    "several passes": ({"trainer": PROGRESSIVE | {"epochs": 2}}, r"trainer\.epochs: a progressive run is one pass"),
    "evaluations": ({"trainer": PROGRESSIVE | {"eval_every": 5}}, r"trainer\.eval_every: would be ignored"),
    "patience": (
        {"trainer": PROGRESSIVE | {"select": {"patience": 1}}},
        r"trainer\.select\.patience: would be ignored",
    ),
}


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE.values(), ids=list(IMPOSSIBLE))
def test_what_a_progressive_run_cannot_do_is_refused(changes: dict[str, Any], message: str) -> None:
    tree = {"data": {"path": "day"}, "init_from": "models:/m@champion", "trainer": PROGRESSIVE}
    with pytest.raises(ConfigError, match=f"(?m)^{message}"):
        validate(TrainRun, tree | changes)


@pytest.mark.dist
def test_a_data_set_that_is_no_day_cannot_be_learnt_progressively(home: Path) -> None:
    run = days.make_run(home / "base", init_from=str(home / "bundle"), trainer=PROGRESSIVE)
    with pytest.raises(ConfigError, match=r"data\.path: .*base: is not a prepared day"):
        preflight(run)
