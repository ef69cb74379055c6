"""``python -m benchmarks.operations DAYS --out DIR``: three days of the pipeline, one bad, one killed and begun again.

Days come from ``recsys-mtl prepare kuairand --days-from ... --days-to ... --hold-out 0.15``, and the real command line
works on them, as a job would every night:

1. the base and the first day;
2. the second day, whose labels are shuffled;
3. the third day, killed with SIGKILL when its first checkpoint is written, and called again;
4. once more, with nothing left to do.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.operations.report import Call, report
from benchmarks.operations.spoil import spoil
from benchmarks.results import write_whole
from pipelines.daily_plan import dated
from pipelines.quiet import quiet
from recsys_mtl.tracking import connect
from recsys_mtl.training.shelf import MARK

CONFIGS = Path(__file__).parent.parent.parent / "pipelines" / "configs"
NAME = "operations"


def main(
    days: Annotated[Path, typer.Argument(help="Directory with base and three prepared days, with held-out rows.")],
    out: Annotated[Path, typer.Option(help="Folder of the report, the days and MLflow's database; made anew.")],
    model: Annotated[str, typer.Option(help="Model preset.")] = "mmoe",
    policy: Annotated[Path, typer.Option(help="Policy.")] = Path(__file__).parent / "policy.yaml",
    override: Annotated[list[str] | None, typer.Option("--set", help="path.to.field=value for every run.")] = None,
) -> None:
    """Run the days, and write OUT/report.md."""
    quiet()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    spoil(days, out / "days", number=2)
    command = command_of(out, model, policy, override or [])
    first, bad, last = map(str, dated(out / "days"))
    calls = [
        call("the base and the first day", [*command, "--until", first], out),
        call(f"{bad}, labels shuffled", [*command, "--until", bad], out),
        killed(f"{last}, killed at its first checkpoint", [*command, "--until", last], out),
        call(f"{last}, called again", [*command, "--until", last], out),
        call("once more", [*command, "--until", last], out),
    ]
    told = [json.loads(line) for line in (out / "told.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = shlex.join(["python", "-m", "benchmarks.operations", *sys.argv[1:]])
    text = report(calls, told, shown, policy.name)
    write_whole(out / "report.md", text)
    typer.echo(text)


def command_of(out: Path, model: str, policy: Path, overrides: list[str]) -> list[str]:
    """Put together the one command that a job would call every night."""
    tell = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"]
    steps = {
        "judge.policy": str(policy),
        "publish.to": f"parquet:{out / 'features'}",
        "notify.command": json.dumps([*tell, str(out / "told.jsonl")]),
    }
    run = [f"tracking.uri=sqlite:///{out}/mlflow.db", f"registry.name={NAME}", "health.enabled=false"]
    run += [f"trainer.checkpoint.path={out}/checkpoints", "trainer.checkpoint.every_steps=2", *overrides]
    configs = [str(CONFIGS / "models" / f"{model}.yaml"), str(CONFIGS / "data" / "kuairand.yaml")]
    pipeline = [part for name, value in steps.items() for part in ("--pipeline", f"{name}={value}")]
    program = [sys.executable, "-m", "pipelines.cli", "daily"]
    return [*program, *configs, *run, "--days", str(out / "days"), *pipeline]


def call(name: str, command: list[str], out: Path) -> Call:
    """Call the command to its end, and look at what there is then."""
    started = time.perf_counter()
    facts_file = out / "facts.json"
    done = subprocess.run([*command, "--json", str(facts_file)], capture_output=True, text=True, check=False)
    (out / "log.txt").open("a").write(done.stdout + done.stderr)
    if done.returncode:
        raise SystemExit(f"{name}: exit code {done.returncode}: {done.stderr}")
    facts = json.loads(facts_file.read_text(encoding="utf-8"))
    return Call(name, done.returncode, time.perf_counter() - started, champion(out), facts["days"], unfinished(out))


def killed(name: str, command: list[str], out: Path) -> Call:
    """Call the command, and kill it when the first checkpoint of the run that it trains is there."""
    started = time.perf_counter()
    before = set(out.glob(f"checkpoints/*/step-*/{MARK}"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not set(out.glob(f"checkpoints/*/step-*/{MARK}")) - before:
            if process.poll() is not None:
                raise SystemExit(f"{name}: it ended by itself")
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    return Call(name, process.returncode, time.perf_counter() - started, champion(out), [], unfinished(out))


def champion(out: Path) -> int | None:
    """Return the champion's version."""
    aliases = connect(f"sqlite:///{out}/mlflow.db").get_registered_model(NAME).aliases
    return int(aliases["champion"]) if "champion" in aliases else None


def unfinished(out: Path) -> list[str]:
    """List the runs that have not come to their end, and how often each name is there if more than once."""
    client = connect(f"sqlite:///{out}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found: list[Any] = client.search_runs(experiments)
    return sorted(run.info.run_name for run in found if run.info.status != "FINISHED")


if __name__ == "__main__":
    typer.run(main)
