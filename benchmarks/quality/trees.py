"""Boosted trees as one more row of the report."""

import time

from benchmarks.quality.campaign import Campaign
from benchmarks.results import Result, digest
from benchmarks.trees import tree_metrics

NAME = "HistGradientBoosting"


def train_trees(campaign: Campaign) -> None:
    """Fit trees for every seed that has no result yet."""
    for seed in range(1 if campaign.choice.quick else campaign.choice.seeds):
        name = f"{NAME}-seed{seed}"
        settings = {"trees": NAME, "tasks": list(campaign.tasks), "seed": seed, "data": digest(campaign.data.stats)}
        store = campaign.runner.store
        result = store.find(name, settings)
        if result is None and not campaign.only_find:
            campaign.runner.report(f"{name}: fitting")
            result = store.save(name, settings, fit(campaign, seed))
        if result is None:
            campaign.missing.append(name)
        else:
            campaign.results.append(result)


def fit(campaign: Campaign, seed: int) -> Result:
    """Fit one model for each task and measure them."""
    started = time.perf_counter()
    metrics = tree_metrics(campaign.data.path, campaign.tasks, seed)
    seconds = time.perf_counter() - started
    return {"model": NAME, "task": None, "seed": seed, "metrics": {"test": metrics}, "seconds": seconds, "health": {}}
