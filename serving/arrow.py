"""Requests and answers as Arrow IPC streams: for candidates by the thousand, whose JSON costs more than their scores.

A request is one table with a row for each candidate, its column ``item_id`` and the raw values of item features. All
else that a request has (``user``, ``context``, ``fusion``, ...) is JSON in the schema's metadata, under ``request``.
"""

import struct
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from fastapi.exceptions import RequestValidationError

from serving.errors import RequestError
from serving.inputs import ITEM_ID
from serving.schemas import LARGEST_ID, LONGEST_ID, SMALLEST_ID

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
REQUEST, ANSWER = b"request", b"answer"
"""Keys in the metadata of schemas."""

DAMAGED = (pa.ArrowException, UnicodeDecodeError, OSError)
"""What pyarrow raises on a damaged stream; a name of a column that is no UTF-8 is found only when it is asked for."""


def read_stream(content: bytes, *, most_rows: int) -> tuple[bytes, pa.Table]:
    """Read a request's head, as JSON, and its candidates.

    Raises:
        RequestValidationError: it is not such a stream.
        RequestError: there are more candidates than ``most_rows``.
    """
    try:
        messages = pa.ipc.MessageReader.open_stream(content)
        if any(is_compressed(message) for message in iter(messages.read_next_message, None)):
            raise unreadable("buffers are compressed, which this service does not take")
        table = pa.ipc.open_stream(content).read_all()
        table.validate(full=True)
    except (*DAMAGED, StopIteration, struct.error) as error:
        raise unreadable(str(error)) from None
    if table.num_rows > most_rows:
        raise RequestError([(("candidates",), f"{table.num_rows} are too many; this service takes up to {most_rows}")])
    return (table.schema.metadata or {}).get(REQUEST, b"{}"), table


def head_of_stream(content: bytes) -> bytes:
    """Read a request's head alone; of what is no stream, nothing."""
    try:
        schema = pa.ipc.open_stream(content).schema
    except DAMAGED:
        return b"{}"
    return (schema.metadata or {}).get(REQUEST, b"{}")


def item_ids(table: pa.Table) -> list[int | str]:
    """Return the candidates' ids.

    Raises:
        RequestError: there are none, or one is empty or of another type.
    """
    if not table.num_rows:
        raise RequestError([(("candidates",), "list should have at least 1 item")])
    if table.column_names.count(ITEM_ID) != 1:
        raise RequestError([(("candidates", ITEM_ID), "field required, once")])
    column = table[ITEM_ID]
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    # Others are not even read: a date beyond the calendar has no Python value.
    ids: list[Any] = column.to_pylist() if any(is_kind(column.type) for is_kind in kinds) else [None]
    if (row := next((row for row, value in enumerate(ids) if not is_id(value)), None)) is not None:
        message = f"expected text of 1 to {LONGEST_ID} characters or a whole number of 64 bits"
        raise RequestError([(("candidates", row, ITEM_ID), message)])
    return ids


def is_id(value: object) -> bool:
    """Tell whether a value can come back in an answer."""
    if isinstance(value, str):
        return 0 < len(value) <= LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool) and SMALLEST_ID <= value <= LARGEST_ID


def write_stream(head: dict[str, Any], columns: dict[str, Any]) -> bytes:
    """Write an answer: a column for the ids, the score and every objective; all else as JSON in the metadata."""
    table = pa.table(columns).replace_schema_metadata({ANSWER: orjson.dumps(head)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unreadable(reason: str) -> RequestValidationError:
    """Say what is wrong with a stream as a whole."""
    message = f"not an Arrow stream: {reason}"
    return RequestValidationError([{"type": "arrow_invalid", "loc": ("body",), "msg": message}])


def is_compressed(message: pa.Message) -> bool:
    """Tell whether a record batch says that its buffers are compressed: a few bytes could then unpack to gigabytes.

    Read from the message's flatbuffer (Message.fbs of Arrow's format), since pyarrow does not tell before it unpacks:
    field 2 of a message is its header, field 3 of a record batch its compression, field 1 of a dictionary its batch.
    """
    if message.type not in {"record batch", "dictionary"}:
        return False
    data = message.metadata.to_pybytes()
    batch = _table(data, struct.unpack_from("<I", data)[0], 2)
    if message.type == "dictionary" and batch is not None:
        batch = _table(data, batch, 1)
    return batch is not None and _field(data, batch, 3) is not None


def _field(data: bytes, table: int, number: int) -> int | None:
    """Return the place of a table's field, if it is there."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    entry = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + entry)[0] if entry < size else 0
    return table + offset if offset else None


def _table(data: bytes, table: int, number: int) -> int | None:
    """Follow a field to the table that it points to."""
    place = _field(data, table, number)
    return None if place is None else place + struct.unpack_from("<I", data, place)[0]
