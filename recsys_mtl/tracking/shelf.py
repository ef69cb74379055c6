"""The shelf: documents that wait in a folder until they have been delivered, of each name the newest."""

import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

Document = dict[str, Any]


class Shelf:
    """JSON documents on disk by name. What a process that died had on it is there for the next one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        files = sorted(folder.glob("*.json"))
        entries = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        self.documents: dict[str, Document] = {entry["name"]: entry["document"] for entry in entries}

    def put(self, name: str, document: Document) -> None:
        """Keep a document instead of the one of that name."""
        with self._lock:
            self.documents[name] = document
            draft = self._path(name).with_suffix(".draft")
            draft.write_text(json.dumps({"name": name, "document": document}), encoding="utf-8")
            draft.replace(self._path(name))

    def drop(self, name: str, document: Document) -> None:
        """Let a document go that has been delivered, unless a newer one has taken its place."""
        with self._lock:
            if self.documents.get(name) is document:
                del self.documents[name]
                self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{quote(name, safe='')}.json"
