"""Candidates that are nothing but ids, and a store in memory: each item is encoded once, and not for every request."""

from recsys_mtl.inference import CellEncoder, Encoded
from serving.inputs import ITEM_ID, Part
from serving.store.cells import Cells
from serving.store.encoded_items import Encode, EncodedItems
from serving.store.rows import Found


class Bare:
    """Encodes candidates of which a request gives the id alone, for one model."""

    def __init__(self, part: Part, encoder: CellEncoder) -> None:
        self.encoder = encoder
        key = ITEM_ID if ITEM_ID in part.columns else part.key
        self.key = ITEM_ID if key is None or key not in part.columns else key
        self.identities = {ITEM_ID, part.alias, part.key}
        self.items: EncodedItems | None = None

    def are(self, candidates: Cells) -> bool:
        """Tell whether candidates have no feature of their own."""
        others = (cells for name, cells in candidates.items() if name not in self.identities)
        return all(cells.count(None) == len(cells) for cells in others)

    def encoded(self, found: Found, candidates: Cells, encode: Encode) -> Encoded:
        """Return candidates as the store knows them; their ids are those of the request.

        The way to encode items belongs to who has this object: kept here, it would be a cycle, and the model's memory
        would outlive the model.

        Raises:
            RequestError: a stored value that its feature cannot take.
        """
        items = self.items
        if items is None or items.table is not found.table:
            items = self.items = EncodedItems(found.table, self.encoder.side)
        encoded, keys = items.take(found, encode), candidates[self.key]
        for place, (_, column, lookup) in enumerate(self.encoder.singles):
            if column == self.key and lookup is not None:
                encoded.singles_FB[place] = lookup.rows(keys, self.encoder.missing[place])
        return encoded
