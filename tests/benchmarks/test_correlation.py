"""The synthetic experiment of the MMoE paper."""

import math
from pathlib import Path

import pytest
import torch

from benchmarks.correlation import __main__ as program
from benchmarks.correlation.__main__ import Experiment, validation_loss, world
from benchmarks.correlation.experiment import MODELS, NOISE_VARIANCE, Setting, World, errors, learn, shuffled
from benchmarks.correlation.report import advantages, certain, losses, picture, report, slope, verdict
from benchmarks.results import Result, Store
from benchmarks.spread import Spread

SHORT = Setting("MMoE", 0.5, seed=0, rate=0.01, rows=1000, epochs=2, batch_size=64)
RATES = dict.fromkeys(MODELS, 0.01)


@pytest.fixture(scope="module")
def data() -> World:
    return World.make(1000, 0.5, 0)


def made(model: str, correlation: float, seed: int, loss: float) -> Result:
    """A result whose tasks have losses around ``loss``."""
    fixed = {"pearson": correlation / 2, "parameters": 13_255, "seconds": 1.0, "valid": [loss, loss]}
    return {"model": model, "correlation": correlation, "seed": seed, "test": [loss - 0.1, loss + 0.1]} | fixed


def grid(mmoe: float, *, falling: float) -> list[Result]:
    """MMoE is ahead by ``mmoe`` at p = 1 and by ``falling`` more at p = 0; PLE is MMoE but for noise."""
    results = []
    for p in (0.0, 0.5, 1.0):
        for seed in range(5):
            base, wobble = 1 + seed, 0.001 * (seed - 2)
            results.append(made("Shared-Bottom", p, seed, base))
            results.append(made("MMoE", p, seed, base - mmoe - falling * (1 - p) + wobble * (1 + p)))
            results.append(made("PLE", p, seed, base - mmoe - falling * (1 - p) + wobble * p))
    return results


def test_the_models_have_the_papers_sizes(data: World) -> None:
    weights = {}
    for name in MODELS:
        setting = Setting(name, 0.5, 0, 0.01, 1000, 1, 800)
        weights[name] = learn(setting, data)["parameters"]
    towers = 2 * (8 + 8 + 1)
    assert weights["Shared-Bottom"] == 100 * 113 + 113 + 2 * 113 * 8 + towers
    assert weights["MMoE"] == 8 * (100 * 16 + 16) + 2 * 100 * 8 + 2 * 16 * 8 + towers
    assert weights["PLE"] == pytest.approx(weights["MMoE"], rel=0.05)


def test_every_epoch_has_other_batches_and_every_model_the_same(data: World) -> None:
    train = data.splits["train"]
    first, again = ([b.labels_BT for b in shuffled(train, SHORT, 0)] for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first[0], next(iter(shuffled(train, SHORT, 1))).labels_BT)
    assert [len(labels_BT) for labels_BT in first] == [64] * (800 // 64)
    rows = torch.cat(first)[:, 0].tolist()
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(train.labels_BT[:, 0].tolist())


def test_a_model_without_tables_learns(data: World) -> None:
    result = learn(SHORT, data)
    assert result["curve"][-1] < result["curve"][0]
    assert len(result["curve"]) == SHORT.epochs
    variance = data.splits["valid"].labels_BT.var(0).mean().item()
    assert NOISE_VARIANCE < sum(result["valid"]) / 2 < variance
    assert learn(SHORT, data)["test"] == result["test"]


def test_errors_are_mean_squares(data: World) -> None:
    class Zero(torch.nn.Module):
        def forward(self, batch: object) -> torch.Tensor:
            return torch.zeros(len(batch), 2)  # type: ignore[arg-type]

    wanted = data.splits["test"].labels_BT.square().mean(0).tolist()
    assert errors(Zero(), data, "test") == pytest.approx(wanted)  # type: ignore[arg-type]


def test_losses_and_advantages_are_paired() -> None:
    found = losses(grid(0.2, falling=0.5))
    assert found["Shared-Bottom"][0.5] == pytest.approx({seed: 1 + seed for seed in range(5)})
    gains = advantages(found, "MMoE", "Shared-Bottom")
    assert [gain.mean for gain in gains.values()] == pytest.approx([0.7, 0.45, 0.2])
    assert slope(found, "MMoE", "Shared-Bottom").mean == pytest.approx(-0.5)
    assert slope(found, "MMoE", "OMoE").count == 0


def test_the_sentence_follows_the_numbers() -> None:
    ahead = verdict(losses(grid(0.2, falling=0.5)), "MMoE", "Shared-Bottom")
    assert ahead.startswith("Papers' order, MMoE better than Shared-Bottom: yes.")
    assert "below it at p = 0, 0.5, 1, beyond chance" in ahead
    assert "advantage grows as the tasks correlate less (-0.50" in ahead
    behind = verdict(losses(grid(-0.2, falling=0.0)), "MMoE", "Shared-Bottom")
    assert ": no." in behind
    assert "above it at p = 0, 0.5, 1" in behind
    assert "does not change beyond chance" in behind
    mixed = verdict(losses(grid(-0.2, falling=0.6)), "MMoE", "Shared-Bottom")
    assert ": no." in mixed
    assert "below it at p = 0, 0.5 and above it at p = 1" in mixed
    level = verdict(losses(grid(0.2, falling=0.5)), "PLE", "MMoE")
    assert ": no." in level
    assert "nowhere different beyond chance" in level


@pytest.mark.parametrize(
    ("values", "sign"), [([3.0, 3.1, 2.9], 1), ([-3.0, -2.0], 0), ([-3.0, -3.1, -3.0], -1), ([], 0)]
)
def test_what_is_beyond_chance(values: list[float], sign: int) -> None:
    assert certain(Spread.of(values)) == sign


def test_the_report_and_its_picture(tmp_path: Path) -> None:
    results = grid(0.2, falling=0.5)
    text = report(results, RATES, "python -m x", ["PLE-p0-lr0.01-seed9"])
    assert "| 0.5 | 0.250 | 5 | 3.00000 ± 1.58114 (3.00000) |" in text
    assert "Missing runs: PLE-p0-lr0.01-seed9." in text
    assert "nan" not in text
    picture(losses(results)).savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_is_not_repeated_and_a_changed_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def remember(setting: Setting, _: World) -> Result:
        trained.append(setting.name)
        return made(setting.model, setting.correlation, setting.seed, setting.rate)

    monkeypatch.setattr(program, "learn", remember)
    monkeypatch.setattr(program, "World", type("Fake", (), {"make": staticmethod(lambda *_: None)}))
    world.cache_clear()
    store = Store(tmp_path)
    first = Experiment(store, 1000, 2, 64)
    rates = first.choose_rates()
    assert rates == dict.fromkeys(MODELS, 1e-4), "the smallest loss"
    assert len(list(first.results(rates, [0.0, 1.0], 2))) == 12
    assert len(trained) == 9 + 12
    again = Experiment(store, 1000, 2, 64)
    assert len(list(again.results(again.choose_rates(), [0.0, 1.0], 2))) == 12
    assert len(trained) == 9 + 12
    list(Experiment(store, 1000, 3, 64).results(rates, [0.0], 1))
    assert len(trained) == 9 + 12 + 3
    only = Experiment(store, 1000, 2, 64, only_find=True)
    assert len(list(only.results(rates, [0.0, 0.5], 1))) == 3
    assert only.missing == [f"{model}-p0.5-lr0.0001-seed0" for model in MODELS]
    world.cache_clear()


def test_a_run_that_went_astray_is_not_chosen() -> None:
    assert validation_loss({"valid": [None, 0.1]}) == validation_loss(None) == math.inf
    assert validation_loss({"valid": [0.2, 0.1]}) == pytest.approx(0.3)
