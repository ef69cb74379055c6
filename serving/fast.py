"""The fast way to read requests: parsed straight into structures that are made for the model's own features.

A field that the model does not know, or a cell of another type than its feature's, ends it: such a request is read the
careful way, which accepts more and says what is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import astuple

from recsys_mtl.data.feature_kinds import IdsFeature, NumberFeature, SequenceFeature, column_of, parts_of
from recsys_mtl.data.schema import Schema
from recsys_mtl.fusion.expression import LONGEST as LONGEST_FORMULA
from serving.inputs import ITEM_ID, Inputs, Part
from serving.schemas import LONGEST_ID, RankRequest, ScoreRequest

Columns = dict[str, Sequence[Any]]
"""Cells by raw column."""
Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Identity = Whole | str
Required = Whole | Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
LISTED = list[Identity | None]
FORMULA = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_FORMULA)]
INLINE: Any = msgspec.defstruct("InlineFormula", [("expression", FORMULA)], forbid_unknown_fields=True)
TYPES: Mapping[frozenset[type], Any] = {
    frozenset({int, float}): float,
    frozenset({int, str}): Identity,
    frozenset({int}): Whole,
    frozenset({str}): str,
    frozenset({list}): LISTED,
    frozenset({list, str}): LISTED | str,
}
"""What a parser is told, by the Python types that all readers of a raw column take."""


class FastReader:
    """Parses requests to one model."""

    def __init__(self, inputs: Inputs, schema: Schema) -> None:
        types = parsed_types(schema)
        self.user, self.context = PartReader("User", inputs.user, types), PartReader("Context", inputs.context, types)
        self.candidate = PartReader("Candidate", inputs.candidate, types, required=ITEM_ID)
        fields: list[Any] = [
            ("user", self.user.struct),
            ("candidates", list[self.candidate.struct]),  # type: ignore[name-defined]
            ("context", self.context.struct, msgspec.field(default_factory=self.context.struct)),
            ("fusion", FORMULA | INLINE | None, None),
            ("model", str | None, None),
            ("explain", bool, False),
        ]
        ranked = [*fields, ("top_k", int | None, None)]
        self.decoders = {
            kind: msgspec.json.Decoder(msgspec.defstruct(kind.__name__, own, forbid_unknown_fields=True, kw_only=True))
            for kind, own in ((ScoreRequest, fields), (RankRequest, ranked))
        }

    def parse(self, body: bytes, kind: type[ScoreRequest]) -> Any | None:
        """Return the request, or nothing if it must be looked at with care."""
        try:
            request: Any = self.decoders[kind].decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return None
        return request if is_in_order(request) else None

    def head(self, request: Any) -> Columns:
        """Return the cells of user and context, of which there is one row."""
        context = self.context.cells([request.context])
        user = self.user.cells([request.user])
        return context | {name: cells for name, cells in user.items() if cells[0] is not None or name not in context}

    def candidates(self, request: Any) -> Columns:
        """Return the cells of the candidates, with their ids."""
        return self.candidate.cells(request.candidates)


class PartReader:
    """The structure of one part of a request, and its cells by column."""

    def __init__(self, name: str, part: Part, types: Mapping[str, Any], required: str | None = None) -> None:
        self.names = list(dict.fromkeys([*part.columns, *filter(None, (part.alias, part.key))]))
        self.alias = part.alias
        self.key = part.key if part.key in part.columns and part.alias not in part.columns else None
        fields: list[Any] = []
        for i, column in enumerate(self.names):
            kind = types[column] if column in part.columns else Identity | None
            if column == required:
                fields.append((f"c{i}", Required))
            elif column == self.key:
                fields.append((f"c{i}", kind | UnsetType, UNSET))
            else:
                fields.append((f"c{i}", kind, None))
        rename = {f"c{i}": column for i, column in enumerate(self.names)}
        self.struct = msgspec.defstruct(name, fields, rename=rename, forbid_unknown_fields=True, kw_only=True)

    def cells(self, parts: Sequence[Struct]) -> Columns:
        """Return the cells by column; the key's come from its alias where a part does not name the key itself."""
        columns: Columns = dict(zip(self.names, zip(*map(astuple, parts), strict=True), strict=True))
        if self.key is not None and UNSET in columns[self.key]:
            pairs = zip(columns[self.key], columns[str(self.alias)], strict=True)
            columns[self.key] = [alias if key is UNSET else key for key, alias in pairs]
        return columns


def parsed_types(schema: Schema) -> dict[str, Any]:
    """Say for every raw column what the fast way takes; None alone where its readers agree on nothing else."""
    allowed: dict[str, frozenset[type]] = {}
    for column, types in reader_types(schema):
        allowed[column] = allowed.get(column, types) & types
    return {column: TYPES[types] | None if types else None for column, types in allowed.items()}


def reader_types(schema: Schema) -> Iterator[tuple[str, frozenset[type]]]:
    """Pair every raw column with the types that each of its readers takes."""
    for feature in schema.features:
        for part in parts_of(feature):
            if isinstance(part, NumberFeature):
                yield column_of(part), frozenset({int, float})
            elif isinstance(feature, IdsFeature | SequenceFeature):
                yield column_of(part), frozenset({list} if feature.separator is None else {list, str})
            else:
                yield column_of(part), frozenset({int, str})


def is_in_order(request: Any) -> bool:
    """Tell whether a request has candidates, and numbers within their bounds."""
    top_k = getattr(request, "top_k", None)
    return len(request.candidates) > 0 and (top_k is None or top_k > 0)
