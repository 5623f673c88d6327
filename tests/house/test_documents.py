"""Locks carry no address, links lead somewhere, the roadmap tells what is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from scalelab.lab.course import roadmap

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def test_locks_carry_no_address(root: Path) -> None:
    """A lock names packages and hashes; where they come from is the reader's own setting."""
    locks = sorted(root.glob("requirements/*.lock"))
    assert locks
    for lock in locks:
        for line in lock.read_text(encoding="utf-8").splitlines():
            assert "://" not in line, f"{lock.name}: {line}"
            assert not line.lstrip().startswith(("-i", "--index", "--extra", "--find", "--trusted"))


def test_locks_pin_by_hash(root: Path) -> None:
    """Every requirement of every lock has a version and a hash."""
    for lock in sorted(root.glob("requirements/*.lock")):
        text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        assert all("==" in line and "--hash=sha256:" in line for line in lines), lock.name


def broken_links(root: Path, documents: list[Path]) -> list[str]:
    """Relative links of Markdown files that lead nowhere: file or heading."""
    broken: list[str] = []
    for document in documents:
        text = _FENCE.sub("", document.read_text(encoding="utf-8"))
        for match in _LINK.finditer(text):
            link = unquote(match.group(1) or match.group(2))
            if re.match(r"^[a-z][a-z0-9+.-]*:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            if not target.exists() or not _has_anchor(target, anchor):
                broken.append(f"{document.relative_to(root)}: {link}")
    return broken


_NAMED_LINE = re.compile(r"\[`(\w+)`\]\(([^)#\s]+)#L(\d+)\)")


def strayed_lines(root: Path, documents: list[Path]) -> list[str]:
    """Links like [`place`](placement.py#L79) whose line does not name what the link names."""
    strayed: list[str] = []
    for document in documents:
        for name, path, number in _NAMED_LINE.findall(document.read_text(encoding="utf-8")):
            lines = (document.parent / path).read_text(encoding="utf-8").splitlines()
            if name not in "".join(lines[int(number) - 1 : int(number)]):
                strayed.append(f"{document.relative_to(root)}: `{name}` is not on line {number}")
    return strayed


def _has_anchor(target: Path, anchor: str) -> bool:
    if not anchor or target.suffix != ".md":
        # `#L10` and `#L10-L20` point to lines of a source file, which must have that many.
        lines = [int(number) for number in re.findall(r"L(\d+)", anchor)]
        if not lines or not target.is_file():
            return True
        return max(lines) <= target.read_text(encoding="utf-8").count("\n") + 1
    text = _FENCE.sub("", target.read_text(encoding="utf-8"))
    return anchor in {_slug(heading) for heading in _HEADING.findall(text)}


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def markdown(root: Path) -> list[Path]:
    """Every Markdown file of the repository (what Git ignores aside)."""
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if found:
        return sorted(path for name in found if (path := root / name).exists())
    hidden = {".venv", ".lab", "node_modules"}
    return sorted(p for p in root.rglob("*.md") if not hidden & set(p.relative_to(root).parts))


def test_relative_links_resolve(root: Path) -> None:
    """A link in a page leads to a file, a heading or a line that is there."""
    assert broken_links(root, markdown(root)) == []


@pytest.mark.parametrize(
    "link", ["gone.md", "page.md#nowhere", "code.py#L9", "#nowhere", "sub/page.md"]
)
def test_link_gate_bites(tmp_path: Path, link: str) -> None:
    """Each kind of dead link is found, and a living one beside it is not."""
    (tmp_path / "code.py").write_text("x = 1\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(f"# Some Heading\n[a]({link}) [b](#some-heading) [c](code.py#L1)\n")
    assert broken_links(tmp_path, [page]) == [f"page.md: {link}"]


def test_a_named_line_names_it(root: Path) -> None:
    """Code moves; a link to `place` that shows something else sends a reader astray."""
    assert strayed_lines(root, markdown(root)) == []


def test_line_gate_bites(tmp_path: Path) -> None:
    """A line that is another's is found, and so is one behind the end."""
    (tmp_path / "code.py").write_text("def first() -> None: ...\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("[`first`](code.py#L1) [`other`](code.py#L1) [`first`](code.py#L9)\n")
    assert strayed_lines(tmp_path, [page]) == [
        "page.md: `other` is not on line 1",
        "page.md: `first` is not on line 9",
    ]


@pytest.fixture
def rows(root: Path) -> tuple[roadmap.Row, ...]:
    """The rows of docs/roadmap.toml."""
    return roadmap.parse((root / "docs" / "roadmap.toml").read_text(encoding="utf-8"))


def test_roadmap_has_every_row(rows: tuple[roadmap.Row, ...]) -> None:
    """All topics, mini projects and practices are there, none twice, none lost."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.id[0]] = counts.get(row.id[0], 0) + 1
    assert counts == {"A": 21, "D": 22, "C": 17, "R": 19, "M": 29, "P": 40}


def test_roadmap_page_is_generated(root: Path, rows: tuple[roadmap.Row, ...]) -> None:
    """docs/roadmap.md is what `./lab roadmap` writes."""
    page = (root / "docs" / "roadmap.md").read_text(encoding="utf-8")
    assert page == roadmap.render(rows), "run: ./lab roadmap"


def test_done_rows_name_what_exists(root: Path, rows: tuple[roadmap.Row, ...]) -> None:
    """Code, tests and page of a done row are files of this repository."""
    assert roadmap.missing_paths(rows, root) == []
