"""The models that are measured. On 26 fields of width 16 and four tasks, their dense parts are of the same size."""

from pathlib import Path
from typing import Any

from pipelines.run import TrainRun
from recsys_mtl.config import load, merge, validate

CONFIGS = Path(__file__).parent.parent.parent / "pipelines" / "configs"

TOWERS: dict[str, Any] = {"kind": "towers", "hidden": [64]}
MMOE: dict[str, Any] = {"kind": "mmoe", "num_experts": 8, "hidden": [256, 128]}
PLE: dict[str, Any] = {"kind": "ple", "num_levels": 2, "task_experts": 2, "shared_experts": 2, "hidden": [144, 128]}
HOME: dict[str, Any] = {"kind": "home", "hidden": [176, 128]}

MODELS: dict[str, dict[str, Any]] = {
    "MMoE": {"experts": MMOE, "heads": TOWERS},
    "PLE": {"experts": PLE, "heads": TOWERS},
    "HoME": {"experts": HOME, "heads": TOWERS},
    "DTRN": {"bottom": {"kind": "dtrn"}, "experts": MMOE, "heads": TOWERS},
    "APEM": {"bottom": {"kind": "apem", "hidden": [1024, 512]}, "heads": TOWERS},
}
COMPARED = ("MMoE", "PLE")
"""Models that peers have, too."""
SMALL: dict[str, Any] = {"bottom": {"kind": "shared", "hidden": [64]}, "heads": TOWERS}
"""What reads rows about as fast as they can be read."""

KUAIRAND = {
    "MMoE": ["mmoe"],
    "PLE": ["ple"],
    "HoME": ["home"],
    "DTRN + PLE": ["dtrn_ple"],
    "APEM": ["apem"],
}
"""Presets on real data, with their sequences."""


def generated_run(data: str, model: dict[str, Any], batch_size: int, **more: Any) -> TrainRun:
    """Configure a run on generated data; ``more`` are settings by their place in the tree."""
    tree = {"data": {"path": data}, "model": model, "trainer": {"batch_size": batch_size}}
    return validate(TrainRun, merge(tree, more))


def kuairand_run(data: str, model: str) -> TrainRun:
    """Configure a run on KuaiRand as its settings say."""
    presets = [str(CONFIGS / "models" / f"{preset}.yaml") for preset in KUAIRAND[model]]
    return load(TrainRun, [str(CONFIGS / "data" / "kuairand.yaml"), *presets, f"data.path={data}"])
