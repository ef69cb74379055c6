"""The command line: helpful, and clear about what is wrong, with exit code 2 and no traceback."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from pipelines import cli
from pipelines.cli import app
from pipelines.run import TrainRun
from recsys_mtl.config import load
from tests import builders

CONFIGS = Path("pipelines/configs")
COMMANDS = (
    "prepare", "train", "deliver", "submit", "job", "daily", "plan", "schema", "tune", "evaluate", "compare", "experts",
    "quantise", "promote", "rollback", "versions", "publish-features", "serve", "serve-key", "doctor",
)  # fmt: skip


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(*arguments: str) -> list[str]:
    """Run a command that must fail as a user error; return what it said, line by line."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.strip().splitlines()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    builders.prepared(tmp_path / "data", rows=60)
    return tmp_path / "data"


def test_help_names_every_command() -> None:
    output = invoke("--help").output
    assert all(command in output for command in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, "prepare kuairand", "prepare synthetic", "prepare table"])
def test_every_command_has_help(command: str) -> None:
    result = invoke(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_names_the_groups_in_the_order_of_work() -> None:
    titles = re.findall(r"─ ([A-Z][\w ]+) ─", invoke("--help").output)
    assert titles == ["Options", "Data", "Training", "On a Ray cluster", "Models", "Serving", "This installation"]


def test_the_version_is_the_package_s() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"recsys-mtl {version('recsys-mtl')}\n")


@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in cli.WITHOUT_ARGUMENTS])
def test_a_command_without_arguments_shows_its_help(command: str) -> None:
    result = invoke(command)
    assert result.exit_code == 2
    assert "Usage" in result.output


def test_a_shell_completes_commands() -> None:
    asked = {"_RECSYS_MTL_COMPLETE": "complete_bash", "COMP_WORDS": "recsys-mtl tr", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, env=asked, prog_name="recsys-mtl")
    assert result.output.split() == ["train"]


def test_train_names_every_problem_at_once() -> None:
    lines = refused("train", "data.path=x", "trainer.epochs=0", "model.experts.kind=moe", "optim.dense.learning_rate=1")
    paths = {line.split(":")[0] for line in lines}
    assert paths == {"trainer.epochs", "model.experts.kind", "optim.dense.learning_rate"}
    assert any("'direct', 'mmoe', 'ple'" in line for line in lines)


def test_train_wants_a_data_set() -> None:
    assert refused("train", str(CONFIGS / "models" / "ple.yaml")) == ["data.path: field required"]


def test_train_wants_a_prepared_data_set(tmp_path: Path) -> None:
    (line,) = refused("train", f"data.path={tmp_path}")
    assert line.startswith(f"{tmp_path / 'spec.yaml'}:")


def test_train_wants_existing_files() -> None:
    assert refused("train", "nowhere.yaml") == ["nowhere.yaml: No such file or directory"]


def test_train_knows_the_tasks(data: Path) -> None:
    (line,) = refused("train", f"data.path={data}", "tasks.include=[click,purchase]")
    assert line == "tasks.include: no task 'purchase' in the data set; it has click, like, watch"


def test_train_needs_the_task_of_a_space(data: Path) -> None:
    (line,) = refused("train", f"data.path={data}", "tasks.include=[like]")
    assert line == "tasks.include: 'like' needs 'click', the task of its sample space"


def test_train_needs_a_task_to_select_by(data: Path) -> None:
    (line,) = refused("train", f"data.path={data}", "trainer.select.tasks=[click,clicks]")
    assert line == "trainer.select.tasks: no task 'clicks' in the run; it has click, like, watch"
    (line,) = refused("train", f"data.path={data}", "trainer.select.metric=clicks/auc")
    assert line.startswith("trainer.select.metric: no task 'clicks'")


def test_train_refuses_more_workers_than_lanes(data: Path) -> None:
    (line,) = refused("train", f"data.path={data}", "cluster.workers=4", "data.reader.lanes=2")
    assert line.startswith("data.reader.lanes: 2")


def test_evaluate_names_a_bundle_that_is_none(data: Path, tmp_path: Path) -> None:
    (line,) = refused("evaluate", "--model", str(tmp_path), "--data", str(data))
    assert str(tmp_path) in line


def test_evaluate_refuses_a_split_that_does_not_exist(data: Path, tmp_path: Path) -> None:
    (line,) = refused("evaluate", "--model", str(tmp_path), "--data", str(data), "--split", "tomorrow")
    assert line == "--split: 'tomorrow' is not one of train, valid, test"


def test_evaluate_refuses_data_that_was_prepared_otherwise(data: Path, tmp_path: Path) -> None:
    builders.bundle(tmp_path / "bundle", data)
    builders.prepared(tmp_path / "other", rows=60, seed=5)
    (line,) = refused("evaluate", "--model", str(tmp_path / "bundle"), "--data", str(tmp_path / "other"))
    assert "fingerprint" in line


def test_evaluate_writes_strict_json(data: Path, tmp_path: Path) -> None:
    builders.bundle(tmp_path / "bundle", data)
    target = tmp_path / "metrics.json"
    result = invoke("evaluate", "--model", str(tmp_path / "bundle"), "--data", str(data), "--json", str(target))
    assert result.exit_code == 0, result.output
    tasks = json.loads(target.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["tasks"]
    assert set(tasks) == set(builders.TASKS)
    stats = json.loads((data / "stats.json").read_text())["splits"]["test"]["tasks"]
    assert (tasks["click"]["rows"], tasks["click"]["positives"]) == (
        stats["click"]["known"],
        stats["click"]["positives"],
    )


def test_experts_shows_health_and_writes_strict_json(data: Path, tmp_path: Path) -> None:
    builders.bundle(tmp_path / "bundle", data)
    target = tmp_path / "health.json"
    result = invoke("experts", str(tmp_path / "bundle"), "--data", str(data), "--json", str(target))
    assert result.exit_code == 0, result.output
    for text in (
        "ranker.experts.levels.0: experts, scale ratio",
        "levels.1: mean gate weights",
        "shared 1",
        "own mass",
    ):
        assert text in result.output
    assert "cosine of the tasks' gradients at the representation, 60 rows" in result.output
    health = json.loads(target.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [layer["name"] for layer in health["layers"]] == ["ranker.experts.levels.0", "ranker.experts.levels.1"]
    assert len(health["gradients"]["cosines"]) == len(builders.TASKS)
    for alarm in health["alarms"]:
        assert f"{alarm['kind']}: {alarm['text']}" in result.output
    assert ("health: ok" in result.output) == (not health["alarms"])


def test_experts_alarms_by_the_thresholds_of_the_model_s_run(data: Path, tmp_path: Path) -> None:
    builders.bundle(tmp_path / "bundle", data)
    manifest = tmp_path / "bundle" / "model.yaml"
    tree = yaml.safe_load(manifest.read_text())
    limits = {"scale_ratio": 1, "zero_ratio": 1, "occupancy": 1, "own_mass": 0, "dead_weight": 0}
    manifest.write_text(yaml.safe_dump(tree | {"run": {"health": limits}}))
    lines = invoke("experts", str(tmp_path / "bundle"), "--data", str(data)).output.splitlines()
    alarms = [line for line in lines if line.startswith(("collapse:", "degradation:", "underfitting:"))]
    assert len(alarms) == 2  # two levels, whose experts are never exactly as loud as each other
    assert all("times as much as" in line and line.endswith("more than 1 times") for line in alarms)


def test_experts_of_a_model_without_any_still_compares_gradients(data: Path, tmp_path: Path) -> None:
    builders.bundle(tmp_path / "bundle", data, model={"experts": {"kind": "direct"}})
    result = invoke("experts", str(tmp_path / "bundle"), "--data", str(data), "--split", "test")
    assert result.exit_code == 0, result.output
    assert "This model has no experts." in result.output
    assert "cosine of the tasks' gradients" in result.output
    assert "health: ok" not in result.output


def test_experts_refuses_a_split_that_does_not_exist(data: Path, tmp_path: Path) -> None:
    (line,) = refused("experts", str(tmp_path), "--data", str(data), "--split", "tomorrow")
    assert line == "--split: 'tomorrow' is not one of train, valid, test"


def test_the_schema_accepts_what_the_program_accepts(tmp_path: Path) -> None:
    schema = json.loads(invoke("schema").output)
    for preset in sorted((CONFIGS / "models").glob("*.yaml")):
        run = load(TrainRun, [str(preset), f"data.path={tmp_path}"])
        jsonschema.validate({"data": {"path": "x"}} | yaml.safe_load(preset.read_text()), schema)
        jsonschema.validate(run.model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError, match="lerning_rate"):
        jsonschema.validate({"data": {"path": "x"}, "optim": {"dense": {"lerning_rate": 1}}}, schema)


@pytest.mark.parametrize("settings", sorted((CONFIGS / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_settings_for_a_data_set_go_with_every_preset(settings: Path) -> None:
    for preset in sorted((CONFIGS / "models").glob("*.yaml")):
        assert load(TrainRun, [str(settings), str(preset), "data.path=x"]).data.path == "x"


@pytest.mark.parametrize("preset", sorted((CONFIGS / "models").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_builds(preset: Path, data: Path) -> None:
    from pipelines.train import preflight

    run = load(TrainRun, [str(preset), f"data.path={data}"])
    assert preflight(run).fingerprint
