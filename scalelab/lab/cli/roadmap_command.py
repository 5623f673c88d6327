"""`roadmap` (hidden): regenerate docs/roadmap.md from docs/roadmap.toml, or check it."""

from __future__ import annotations

from typing import Annotated

import typer

from scalelab.lab.cli.outcome import CommandFailed, say
from scalelab.lab.cli.place import root_of


def roadmap(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; 1 if it differs.")] = False,
) -> None:
    """Write docs/roadmap.md from docs/roadmap.toml; done rows must name files that exist."""
    from scalelab.lab.course.roadmap import missing_paths, parse, render

    docs = root_of(context) / "docs"
    rows = parse((docs / "roadmap.toml").read_text(encoding="utf-8"))
    missing = missing_paths(rows, root_of(context))
    if missing:
        raise CommandFailed(f"Done rows name what is not there: {'; '.join(missing)}.")
    page, text = docs / "roadmap.md", render(rows)
    if check:
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            raise CommandFailed("docs/roadmap.md is stale; run: ./lab roadmap")
        say("docs/roadmap.md is up to date.")
        return
    page.write_text(text, encoding="utf-8")
    done = sum(row.status == "done" for row in rows)
    say(f"Wrote docs/roadmap.md: {len(rows)} rows, {done} done.")
