"""What MkDocs does beside reading ``docs/``: the README is the first page, and what pages link to comes along."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS, README, REST = ROOT / "docs", ROOT / "README.md", Path("repository")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
"""Path of a link to a file beside the one that has it."""


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the README, and every file of the repository that a page leads to."""
    from mkdocs.structure.files import File

    todo = [README, *(source_of(file.src_uri) for file in files.documentation_pages())]
    while todo:
        source = todo.pop()
        if files.get_file_from_path(uri_of(source)) is None:
            files.append(File.generated(config, uri_of(source), abs_src_path=str(source)))
        if source.suffix == ".md":
            todo += [found for found in linked(source) if files.get_file_from_path(uri_of(found)) is None]
    return files


def on_page_markdown(markdown: str, page: "Page", **_: object) -> str:
    """Let links lead to where their files are on the site."""
    source = source_of(page.file.src_uri)

    def moved(found: re.Match[str]) -> str:
        target = (source.parent / found[0]).resolve()
        return os.path.relpath(uri_of(target), Path(page.file.src_uri).parent) if target.is_file() else found[0]

    return LINK.sub(moved, markdown)


def linked(source: Path) -> list[Path]:
    """Return the files that a page links to."""
    targets = ((source.parent / link).resolve() for link in LINK.findall(source.read_text(encoding="utf-8")))
    return [target for target in targets if target.is_file()]


def uri_of(source: Path) -> str:
    """Return where a file of the repository is on the site."""
    if source == README:
        return "index.md"
    return str(source.relative_to(DOCS) if source.is_relative_to(DOCS) else REST / source.relative_to(ROOT))


def source_of(uri: str) -> Path:
    """Return which file of the repository is there on the site."""
    if uri == "index.md":
        return README
    path = Path(uri)
    return ROOT / path.relative_to(REST) if path.is_relative_to(REST) else DOCS / path
