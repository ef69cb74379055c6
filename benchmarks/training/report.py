"""The report in Markdown."""

from collections.abc import Mapping, Sequence

from benchmarks.results import Result
from benchmarks.text import machine
from benchmarks.training import tables
from benchmarks.training.growth import growth_table
from benchmarks.training.peers.environment import REQUIREMENTS
from benchmarks.training.plan import KUAI, OWN
from benchmarks.training.targets import targets_table

PICTURE = "growth.png"
GRID_NOTE = """\
Rows per second of training steps, medians over rounds in which systems take turns (range in brackets): forward pass,
loss, backward pass and both optimisers, on 8 batches in memory that come again and again. Each system has a process
of its own; the first steps are not counted. 26 id fields of width 16 whose ids follow Zipf's law, 4 binary tasks, 8
experts of 256 and 128 units (MMoE) or 2 levels of 2 experts for each task and 2 shared ones of 144 and 128 (PLE),
towers of 64. *Ours / best peer* divides by the fastest peer of the same round.

Peers run their own trainer (`MTLTrainer.train_one_epoch`, `model.fit`) on batches in the place of their loader's.
What differs: both update whole tables with Adam, their default, where ours updates the rows of a batch with row-wise
Adagrad, and the dense part with AdamW, a schedule of its rate and clipped gradients. torch-rechub normalises every
layer by batch statistics, gates included. Weight decay and penalties, which both have by default and which cost them
time, are off. deepctr-torch's last level of PLE has a shared output that nothing reads."""
FILES_NOTE = """\
One epoch from the same files, rates over the steps but the first ones. Peers read everything with pandas first and
train through their own loaders; the time of reading is not in their rate. Ours reads, shuffles and collates while it
trains; *recsys-mtl, 1 worker* and *2 workers* are whole `recsys-mtl train` commands on Ray on the same number of
threads in all, with evaluation, calibration and registration in *whole command*. The first line of a model is its
rate in memory."""
PARTS_NOTE = """\
Pieces of work take turns in one process. *Dense / GEMM*: operations of the matrix products alone, three for each of
the forward pass, over the time of the dense part's forward and backward pass, as a share of what products of square
matrices of 1,024 reach on as many threads. *Tables / triad*: bytes that a step has to move for its look-ups and
updates, over their time, as a share of STREAM's triad."""
MEMORY_NOTE = """\
Difference of peak memory between the largest and the smallest tables over that of their weights in fp32: weights,
gradients and what the optimiser remembers."""


def report(results: Sequence[Result], missing: Mapping[str, str], command: str, threads: int, load: str) -> str:
    """Write the report."""
    parts = [
        "# Training speed",
        f"{machine()}, {threads} threads. Peers: {', '.join(pinned())}. {load}\n\n    {command}",
        "## Targets",
        targets_table(results),
        *("## Compute only, beside peers", GRID_NOTE, tables.grid_table(results), tables.sizes_table(results)),
        *("## Compute only, other models", tables.own_table(results, OWN)),
        *("## From Parquet", FILES_NOTE, tables.files_table(results), tables.reading_table(results)),
        *("## KuaiRand, with its sequences", tables.own_table(results, KUAI)),
        *("## Parts of a step, beside the machine's limits", PARTS_NOTE, tables.limits_table(results)),
        *("## Evaluation", tables.evaluation_table(results)),
        *("## Memory", MEMORY_NOTE, tables.memory_table(results)),
        *("## Start-up", tables.startup_table(results)),
        *("## Growth", growth_table(results), f"![Rows per second by size]({PICTURE})"),
        *("## Profile", tables.profile_table(results)),
        "## Not measured",
        "\n".join(f"- {name}: {why}" for name, why in missing.items()) or "Nothing.",
    ]
    return "\n\n".join(parts) + "\n"


def pinned() -> list[str]:
    """Name the peers with their versions."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [line.replace("==", " ") for line in lines if line.startswith(("torch-rechub", "deepctr-torch"))]
