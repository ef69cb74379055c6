"""Runs that begin with an earlier model, on data whose vocabularies have grown."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.run import TrainRun
from pipelines.train import preflight
from pipelines.warm import InitFrom
from pipelines.worker import WorkerProgram
from recsys_mtl.bundle import Bundle
from recsys_mtl.calibration import Calibration, predictions
from recsys_mtl.config import ConfigError
from recsys_mtl.data.batch import BatchLayout, collate
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import Cursor, Worker
from recsys_mtl.training.moments import MOMENTS_FILE, MOMENTS_FOLDER, gather_moments, save_moments
from recsys_mtl.training.sharding import gather_weights
from recsys_mtl.training.step import TrainStep
from recsys_mtl.training.warm_start import begin_with, row_sources
from tests import builders, days
from tests.distributed.processes import run_workers

pytestmark = pytest.mark.dist

SPARSE = [{"kind": "rowwise_adagrad"}, {"kind": "adagrad"}, {"kind": "sgd"}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a day, and a trained model of the base."""
    path = tmp_path_factory.mktemp("warm")
    days.write_days(path)
    run_workers(2, path, days.train_bundle, days.make_run(path / "base"), path)
    return path


def day_of(home: Path) -> Path:
    return home / days.FIRST.isoformat()


Begun = dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]
"""Weights and moments before the first step, by what happens to the optimisers."""


def begin(worker: Worker, runs: dict[str, TrainRun]) -> Begun:
    found: Begun = {}
    for name, run in runs.items():
        step = WorkerProgram(run, worker, torch.device("cpu")).first_step()
        found[name] = gather_weights(step.model), gather_moments(step)
    return found


@pytest.fixture(scope="module", params=[1, 2])
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, home: Path) -> Begun:
    runs = {
        name: days.make_run(day_of(home), init_from={"model": str(home / "bundle"), "optimizer": name})
        for name in ("keep", "reset")
    }
    found: Begun = run_workers(request.param, tmp_path_factory.mktemp("begun"), begin, runs)[0]
    return found


def test_the_grown_model_scores_raw_rows_exactly_as_the_earlier_one(home: Path, begun: Begun) -> None:
    weights, _ = begun["keep"]
    before, encoder = Bundle.load(home / "bundle"), Encoder.load(day_of(home))
    raw = builders.raw_table(300, 77)  # among others, rows of the day's new values and of unknown ones
    assert encoder.spec.rows["user"] > before.encoder.spec.rows["user"]
    model = before.manifest.model.build(encoder.spec, before.manifest.tasks)
    model.load_state_dict(weights)
    batch = collate(encoder.encode(raw), BatchLayout.of(encoder.spec, before.tasks))
    with torch.no_grad():
        scores = predictions(model.eval()(batch), before.manifest.tasks, before.calibration)
    assert before.calibration != Calibration()
    assert torch.equal(scores, before.score(raw))


def test_the_optimisers_remember_what_they_did_of_each_value(home: Path, begun: Begun) -> None:
    stored = load_file(home / MOMENTS_FOLDER / MOMENTS_FILE)
    _, moments = begun["keep"]
    assert moments.keys() == stored.keys()
    old, new = Encoder.load(home / "base"), Encoder.load(day_of(home))
    grown = 0
    for name, moment in moments.items():
        table = name.split(".")[-2] if name.startswith("tables/") else ""
        if table in old.vocabularies:
            rows = old.spec.rows[table]
            assert torch.equal(moment[:rows], stored[name]), "a day that has grown keeps the numbers of rows"
            assert not moment[rows:].any()
            grown += new.spec.rows[table] - rows
            assert len(moment) == new.spec.rows[table]
        else:
            assert torch.equal(moment, stored[name])
    assert grown > 0
    assert stored["tables/embeddings.pooled.embedding_bags.user.weight/momentum1"].any()


def test_optimisers_that_are_reset_remember_nothing(begun: Begun) -> None:
    weights, moments = begun["reset"]
    kept, _ = begun["keep"]
    assert all(torch.equal(weights[name], kept[name]) for name in kept)
    assert not any(moment.any() for moment in moments.values())


def learn(step: TrainStep, program: WorkerProgram) -> None:
    for batch in program.reader.epoch(Cursor()):
        step(batch)


def twice(worker: Worker, runs: list[TrainRun], folder: Path) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Learn the same rows twice, without and with a stop in between after which only files are left."""
    return [(learnt(worker, run, None), learnt(worker, run, folder)) for run in runs]


def learnt(worker: Worker, run: TrainRun, pause: Path | None) -> dict[str, Tensor]:
    program = WorkerProgram(run, worker, torch.device("cpu"))
    step = program.first_step()
    learn(step, program)
    if pause is not None:
        weights, moments = gather_weights(step.model), gather_moments(step)
        if worker.rank == 0:
            save_file(weights, pause / "weights.safetensors")
            save_moments(moments, pause)
        torch.distributed.barrier()
        step = program.first_step()
        sources = row_sources(program.encoder, program.encoder)
        begin_with(step, sources, weights=pause / "weights.safetensors", moments=pause / MOMENTS_FILE)
        torch.distributed.barrier()
    learn(step, program)
    return gather_weights(step.model)


def test_kept_optimisers_go_on_as_if_there_had_been_no_break(tmp_path: Path, home: Path) -> None:
    dense = {"warmup_steps": 0, "decay": "none"}
    runs = [days.make_run(day_of(home), optim={"sparse": sparse, "dense": dense}) for sparse in SPARSE]
    for straight, paused in run_workers(2, tmp_path, twice, runs, tmp_path)[0]:
        assert all(torch.equal(straight[name], paused[name]) for name in straight)


TOWERS = {"kind": "towers", "hidden": [4]}
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "another architecture": (
        {"model": builders.MODEL | {"heads": TOWERS}},
        [r"init_from: weight ranker\.heads\..*: \[.*8.*\] in the earlier model, \[.*4.*\] expected"],
    ),
    "fewer tasks": (
        {"tasks": {"include": ["click"]}},
        [r"init_from: tasks: click \(binary\), like \(binary\), watch \(regression\) in the earlier model, click"],
    ),
    "another optimiser of the tables": (
        {"optim": {"sparse": {"kind": "adagrad"}}},
        [r"init_from: moment tables/.*item.weight/momentum1: \[\d+\] in the earlier model, \[\d+, 16\] expected"],
    ),
    "no such model": (
        {"init_from": {"model": "/no/such/bundle"}},
        ["init_from: /no/such/bundle: there is no such bundle"],
    ),
}


@pytest.mark.parametrize(("changes", "messages"), REFUSED.values(), ids=list(REFUSED))
def test_what_does_not_fit_is_refused_before_anything_starts(
    home: Path, changes: dict[str, Any], messages: list[str]
) -> None:
    run = days.make_run(day_of(home), **({"init_from": str(home / "bundle")} | changes))
    refused(run, *messages)


def refused(run: TrainRun, *messages: str) -> None:
    for message in messages:
        with pytest.raises(ConfigError, match=message):
            preflight(run)


def test_data_that_did_not_grow_from_the_models_is_refused(tmp_path: Path, home: Path) -> None:
    builders.prepared(tmp_path / "data", rows=100)  # numbers are standardised by other moments
    run = days.make_run(tmp_path / "data", init_from=str(home / "bundle"))
    refused(run, r"init_from: moments\.duration: \(.*\) in the base, \(.*\) here")


def test_a_model_without_moments_can_only_be_begun_with_anew(tmp_path: Path, home: Path) -> None:
    shutil.copytree(home / "bundle", tmp_path / "bundle")
    init_from = {"model": str(tmp_path / "bundle")}
    run = days.make_run(day_of(home), init_from=init_from)
    refused(run, r"there is no .*optimizer with optimizer/optimizer\.safetensors; init_from\.optimizer=reset begins")
    preflight(days.make_run(day_of(home), init_from=init_from | {"optimizer": "reset"}))


def test_a_plain_address_is_short_for_its_mapping(home: Path) -> None:
    run = days.make_run(day_of(home), init_from="models:/clicks@champion")
    assert run.init_from == InitFrom(model="models:/clicks@champion", optimizer="keep")
