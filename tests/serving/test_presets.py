"""Every preset is bundled, served and ranked, and HTTP says what the bundle says offline."""

from pathlib import Path

import pytest
import torch

from recsys_mtl.config import read_yaml
from tests import builders
from tests.serving.conftest import Start
from tests.serving.world import answered, one_user, request_of, scores_of

PRESETS = sorted((Path(__file__).parents[2] / "pipelines" / "configs" / "models").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_a_preset_is_served(preset: Path, data: Path, start: Start, tmp_path: Path) -> None:
    bundle = builders.bundle(tmp_path / "bundle", data, model=read_yaml(preset)["model"], scale=1.5)
    impressions = one_user(20)
    body = request_of(impressions)
    with start(tmp_path / "bundle") as client:
        assert client.get("/readyz").json()["status"] == "ready"
        scored, ranked = answered(client, "/v1/score", body), answered(client, "/v1/rank", body)
    expected_BT = bundle.score(impressions)
    assert expected_BT.std(0).max() > 1e-4
    torch.testing.assert_close(scores_of(scored), expected_BT, rtol=1e-5, atol=1e-6)
    assert ranked["candidates"] == sorted(scored["candidates"], key=lambda row: -row["score"])
