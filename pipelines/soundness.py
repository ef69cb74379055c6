"""Expert health of a version, measured anew: the tags of its run may speak of the model before it learnt."""

from collections.abc import Sequence

import torch
from rich.console import Console
from rich.progress import track

from pipelines.contenders import BATCH_SIZE, Contender
from pipelines.experts import thresholds
from pipelines.policy import HealthLimit
from pipelines.rules import Estimate, Finding
from recsys_mtl.bundle import Bundle
from recsys_mtl.data.batch import BatchLayout
from recsys_mtl.data.reader import EvalReader, Worker
from recsys_mtl.data.shards import row_groups
from recsys_mtl.health import Alarm, RowSample, alarms, measure
from recsys_mtl.health.report import positive_rates
from recsys_mtl.storage import Place
from recsys_mtl.training.evaluate import examine


def health_finding(limit: HealthLimit, both: Sequence[Contender], rows: tuple[Place, str], console: Console) -> Finding:
    """Count both models' alarms on the newest of the rows."""
    champion, candidate = (alarms_of(contender.bundle, rows, console) for contender in both)
    counts = float(len(champion)), float(len(candidate))
    passes = len(candidate) <= limit.at_most
    harm = not passes and len(candidate) > len(champion)
    note = "; ".join(alarm.text for alarm in candidate)
    return Finding("expert alarms", f"<= {limit.at_most}", *counts, Estimate(counts[1]), passes, harm, note)


def alarms_of(bundle: Bundle, rows: tuple[Place, str], console: Console) -> tuple[Alarm, ...]:
    """Pass a split through a model, and look at its experts and gates; gradients raise no alarms."""
    layout = BatchLayout.of(bundle.encoder.spec, bundle.tasks)
    reader = EvalReader(row_groups(*rows), layout, batch_size=BATCH_SIZE, worker=Worker())
    batches = track(reader, "experts", total=reader.steps, console=console, disable=not console.is_terminal)
    sample, tasks = RowSample(0, reader.rows), bundle.manifest.tasks
    bank, record = examine(bundle.model, batches, tasks, torch.device("cpu"), sample=sample)
    return alarms(measure(record, positive_rates(bank.compute())), thresholds(bundle.manifest))
