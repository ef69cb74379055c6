"""Requests made from logged impressions, and their answers as tensors."""

import re
import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from fastapi.testclient import TestClient
from torch import Tensor

from recsys_mtl.data.golden import to_requests
from tests import builders

Json = dict[str, Any]


def until_settled(client: TestClient, seconds: float = 60) -> TestClient:
    """Wait until the model is ready or refused."""
    deadline = time.monotonic() + seconds
    while client.get("/readyz").json()["status"] == "loading":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return client


def sample(client: TestClient, name: str) -> float:
    """Read one sample of the metrics, 0 where it is not there yet."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def until(client: TestClient, name: str, value: float) -> None:
    deadline = time.monotonic() + 60
    while sample(client, name) != value:
        assert time.monotonic() < deadline, client.get("/metrics").text
        time.sleep(0.02)


def until_all_loaded(client: TestClient) -> Json:
    deadline = time.monotonic() + 60
    while any(state["status"] == "loading" for state in client.get("/v1/models").json()["states"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    models: Json = client.get("/v1/models").json()
    return models


def one_user(rows: int, seed: int = 7) -> pa.Table:
    """Impressions of one user in one context, each of another item."""
    raw = builders.raw_table(40 * builders.ITEMS, seed)
    _, first_rows = np.unique(raw["video"].to_numpy(), return_index=True)
    table = raw.take(first_rows[:rows])
    for name in ("user", "city", "history_item", "history_author", "age", "hour"):
        table = table.set_column(table.column_names.index(name), name, raw[name].take([seed] * rows))
    return table


def request_of(raw: pa.Table) -> Json:
    """Turn impressions that share user and context into a request."""
    (request,), _ = to_requests(builders.schema(), raw)
    return request


def answered(client: TestClient, route: str, body: Json) -> Json:
    response = client.post(route, json=body)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def scores_of(answer: Json) -> Tensor:
    """Scores by candidate and task (B, T)."""
    return torch.tensor([[row["objectives"][task] for task in builders.TASKS] for row in answer["candidates"]])


def problems_of(client: TestClient, body: Any, route: str = "/v1/rank") -> list[tuple[str, str]]:
    """Post a request that is refused, and return each problem's place and message."""
    response = client.post(route, json=body)
    assert response.status_code == 422, response.text
    return [(".".join(map(str, p["loc"][1:])), p["msg"]) for p in response.json()["detail"]]
