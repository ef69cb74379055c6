"""Quality on KuaiRand-Pure: neural presets over several seeds, trained with two Ray workers, against boosted trees.

recsys-mtl prepare kuairand --source DIR --out data/kuairand
python -m benchmarks.kuairand data/kuairand --seeds 3
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

PRESETS = ("shared_bottom", "mmoe", "ple")
TASKS = ("is_click", "long_view", "is_like")
CONFIGS = Path("pipelines/configs")


def main(
    data: Annotated[Path, typer.Argument(help="Prepared KuaiRand data set.")],
    seeds: Annotated[int, typer.Option(help="Runs of each preset.")] = 3,
    workers: Annotated[int, typer.Option(help="Ray workers.")] = 2,
    presets: Annotated[str, typer.Option(help="Comma-separated presets.")] = ",".join(PRESETS),
    trees: Annotated[bool, typer.Option(help="Fit boosted trees as well.")] = True,
    out: Annotated[Path, typer.Option(help="File for all numbers.")] = Path("data/kuairand-quality.json"),
    overrides: Annotated[list[str] | None, typer.Option("--set", help="path.to.field=value for every run.")] = None,
) -> None:
    """Train, evaluate and print a Markdown table of mean and standard deviation."""
    results: dict[str, list[dict[str, Any]]] = {}
    for preset in filter(None, presets.split(",")):
        results[preset] = [train(preset, data, seed, workers, overrides or []) for seed in range(seeds)]
        out.write_text(json.dumps(results, indent=2), encoding="utf-8")
    if trees:
        from benchmarks.trees import tree_metrics

        results["trees"] = [tree_metrics(data, TASKS, seed) for seed in range(seeds)]
        out.write_text(json.dumps(results, indent=2), encoding="utf-8")
    typer.echo(markdown(results))


def train(preset: str, data: Path, seed: int, workers: int, overrides: Iterable[str]) -> dict[str, Any]:
    """Train one model with the command line, as a user would, and evaluate what it registered."""
    command = [sys.executable, "-m", "pipelines.cli", "train", str(CONFIGS / "data" / "kuairand.yaml")]
    command += [str(CONFIGS / "models" / f"{preset}.yaml"), f"data.path={data}", f"seed={seed}"]
    command += [f"cluster.workers={workers}", f"run_name={preset}-seed{seed}", *overrides]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    run_id = done.stdout.split("run_id=")[1].split()[0]
    target = data.parent / f"{data.name}-{run_id}.json"
    command = [sys.executable, "-m", "pipelines.cli", "evaluate", "--model", f"runs:/{run_id}/bundle"]
    subprocess.run([*command, "--data", str(data), "--json", str(target)], stdout=subprocess.DEVNULL, check=True)
    metrics = json.loads(target.read_text(encoding="utf-8"))["tasks"]
    target.unlink()
    typer.echo(
        f"{preset} seed {seed}: " + ", ".join(f"{t} {metrics[t]['auc']:.4f}/{metrics[t]['gauc']:.4f}" for t in TASKS)
    )
    return metrics  # type: ignore[no-any-return]


def markdown(results: Mapping[str, list[dict[str, Any]]]) -> str:
    """Lay the results out: AUC and GAUC, mean and standard deviation over seeds, with the counts that they rest on."""
    first = next(iter(results.values()))[0]
    heads = [f"{t} ({first[t]['rows']:,} rows, {first[t]['positives']:,} positives)" for t in TASKS]
    lines = ["| model | " + " | ".join(f"{h} AUC | GAUC" for h in heads) + " |", "|---" * (1 + 2 * len(TASKS)) + "|"]
    for model, runs in results.items():
        cells = [spread([run[task][metric] for run in runs]) for task in TASKS for metric in ("auc", "gauc")]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


if __name__ == "__main__":
    typer.run(main)
