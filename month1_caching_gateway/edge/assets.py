"""Build a site whose files may be kept for ever: the content's hash is part of each name.

    site/index.html            →  index.html                        (asks each time: no-cache)
    site/static/app.css        →  static/app.1f3c9a2b7e4d.css       (kept for ever: immutable)

References of the form `/static/…` in pages, style sheets and scripts are rewritten, so a change of
a picture changes the name of the style sheet that uses it, and the page's content. `manifest.json`
maps the old names to the new ones.

Guarantees: the same source gives the same names; a page never names a file that is not there (new
files are written before pages, each replaced whole); files of earlier builds stay, because a page
that somebody loaded a minute ago still asks for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from scalelab.errors import InvalidInput

_REWRITTEN = frozenset((".html", ".css", ".js", ".json"))
_REFERENCE = re.compile(r"/static/([A-Za-z0-9_./-]*[A-Za-z0-9])")
_HASH_LENGTH = 12


def build(source: Path, target: Path) -> dict[str, str]:
    """Write the built site; returns the manifest: `app.css` → `app.1f3c9a2b7e4d.css`.

    Raises InvalidInput for a reference to a file that does not exist, or in a circle; then nothing
    has been written.
    """
    site = _Site(source / "static")
    for path in sorted(site.folder.rglob("*")):
        if path.is_file():
            site.name_of(path.relative_to(site.folder).as_posix())
    pages = {
        path.relative_to(source).as_posix(): site.rewritten(path, path.read_bytes())
        for path in sorted(source.rglob("*.html"))
    }
    for old, new in site.names.items():
        _write(target / "static" / new, site.contents[old])
    for name, content in pages.items():
        _write(target / name, content)
    manifest = json.dumps(dict(sorted(site.names.items())), indent=2) + "\n"
    _write(target / "manifest.json", manifest.encode())
    return dict(site.names)


class _Site:
    """Names and contents of the static files, each found after those it refers to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, str] = {}
        self.contents: dict[str, bytes] = {}
        self._open: list[str] = []

    def name_of(self, old: str) -> str:
        if old in self.names:
            return self.names[old]
        if old in self._open:
            raise InvalidInput(f"{' → '.join([*self._open, old])}: files refer to each other")
        path = self.folder / old
        self._open.append(old)
        content = self.rewritten(path, path.read_bytes())
        self._open.pop()
        digest = hashlib.sha256(content).hexdigest()[:_HASH_LENGTH]
        new = Path(old).with_suffix(f".{digest}{path.suffix}").as_posix()
        self.names[old], self.contents[old] = new, content
        return new

    def rewritten(self, path: Path, content: bytes) -> bytes:
        if path.suffix not in _REWRITTEN:
            return content

        def renamed(found: re.Match[str]) -> str:
            name = found.group(1)
            wanted = self.folder / name
            if ".." in name.split("/") or not wanted.is_file():
                raise InvalidInput(f"{path.name} refers to /static/{name}, which does not exist")
            return f"/static/{self.name_of(name)}"

        return _REFERENCE.sub(renamed, content.decode("utf-8")).encode()


def _write(path: Path, content: bytes) -> None:
    """Replace the file whole; one that says the same already keeps its modification time."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.chmod(0o644)
    aside.replace(path)
