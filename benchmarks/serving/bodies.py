"""Requests of any number of candidates, made from a bundle's golden ones."""

import itertools
import json
from pathlib import Path
from typing import Any

import orjson

Json = dict[str, Any]


def request_of(bundle: Path, candidates: int) -> Json:
    """Return a golden request with so many candidates, taken in turn from all golden requests."""
    return widened(golden_of(bundle), 0, candidates)


def golden_of(bundle: Path) -> list[Json]:
    """Read the golden requests."""
    return [json.loads(line)["request"] for line in (bundle / "golden.jsonl").read_text("utf-8").splitlines()]


def widened(golden: list[Json], number: int, candidates: int) -> Json:
    """Give one of the golden requests so many candidates, taken in turn from all of them."""
    every = itertools.cycle([candidate for request in golden for candidate in request["candidates"]])
    return {**golden[number], "candidates": list(itertools.islice(every, candidates))}


def ids_of(request: Json) -> Json:
    """Leave nothing of a request but ids and the context: the feature store has the rest."""
    candidates = [{"item_id": candidate["item_id"]} for candidate in request["candidates"]]
    user = {name: request["user"][name] for name in ("user_id",) if name in request["user"]}
    return {**request, "user": user, "candidates": candidates}


def rows_of(request: Json) -> list[Json]:
    """Write a request as rows of raw columns, as a service without a notion of users would be asked."""
    head = {**request["user"], **request.get("context", {})}
    items = (
        {name: cell for name, cell in candidate.items() if name != "item_id"} for candidate in request["candidates"]
    )
    return [{**head, **item} for item in items]


def as_ours(request: Json) -> bytes:
    """Write a body of the ranking API."""
    return orjson.dumps(request)


def as_rows(request: Json) -> bytes:
    """Write a body of plain rows."""
    return orjson.dumps({"rows": rows_of(request)})


def as_frame(request: Json) -> bytes:
    """Write a body of MLflow's scoring protocol."""
    rows = rows_of(request)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    data = [[row.get(name) for name in columns] for row in rows]
    return orjson.dumps({"dataframe_split": {"columns": columns, "data": data}})
