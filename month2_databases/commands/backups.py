"""The past: backups of all primaries, copies of a moment, drills."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from month2_databases.commands.running_stack import JsonFlag, description, folder
from scalelab.lab.cli.outcome import (
    CommandFailed,
    emit_json,
    human_bytes,
    note,
    say,
    show_table,
)
from scalelab.lab.cli.running import in_a_sentence

if TYPE_CHECKING:
    from month2_databases.backup import DrillReport, Target
    from month2_databases.shard_backups import ShardBackups

ShardOption = Annotated[
    list[str] | None, typer.Option("--shard", help="Only this primary. Repeatable; default: all.")
]
KeepOption = Annotated[
    int, typer.Option(min=1, max=1000, help="Backups of each primary that stay.")
]


def backup(
    context: typer.Context,
    shard: ShardOption = None,
    keep: KeepOption = 3,
    as_json: JsonFlag = False,
) -> None:
    """Take a full, sealed backup of every primary, and one point that all of them share.

    From its end on any moment can be restored: the servers archive their log. Run it before the
    first `restore`, and after schema changes. Then backups beyond the newest few go, with the log
    that no other needs: a moment before the oldest one that stays cannot be had back.

    Examples:  ./lab month2 backup --keep 7   ·   ./lab month2 backup --shard shard-0
    """
    with in_a_sentence():
        told = _backups(context).backup(shard, keep=keep)
    if as_json:
        emit_json(told)
        return
    rows = [
        (name, one["id"], human_bytes(one["bytes"]), len(one["removed"]))
        for name, one in told["shards"].items()
    ]
    show_table(("primary", "backup", "size", "older removed"), rows)
    if told["point"]:
        say(f"One point of all: ./lab month2 restore --point {told['point']}")


def prune(
    context: typer.Context,
    keep: KeepOption = 3,
    shard: ShardOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove all but the newest few backups and the log that served them alone; take none.

    For a disk that is full already: it needs no room. `backup` does the same at its end.

    Examples:  ./lab month2 prune --keep 1   ·   ./lab month2 prune --shard shard-0
    """
    with in_a_sentence():
        told = _backups(context).prune(shard, keep=keep)
    if as_json:
        emit_json({"shards": told})
        return
    rows = [
        (name, len(one["removed"]), human_bytes(one["freed_bytes"])) for name, one in told.items()
    ]
    show_table(("primary", "backups removed", "freed"), rows)


def restore(
    context: typer.Context,
    to: Annotated[str, typer.Option(help="A moment, as 2026-03-01T12:00:00+00:00.")] = "",
    point: Annotated[str, typer.Option(help="A point of all shards, as `backup` names it.")] = "",
    shard: ShardOption = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep the copies open until Ctrl-C; prints their DSNs.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Restore copies to a moment, beside the running stack, and open them to prove it.

    The originals go on and are not touched. Without --to and --point: as far as the log goes. The
    folders stay and are printed; remove them when you have taken what you need, or ./lab clean.

    Examples:  ./lab month2 restore --to 2026-03-01T12:00:00Z   ·   ./lab month2 restore --serve
    """
    from month2_databases.backup import Target, parse_time

    with in_a_sentence():
        target = Target(parse_time(to) if to else None, point or None)
        told = _restored(context, target, shard, serve=serve)
    if as_json:
        emit_json(told)
        return
    rows = [
        (name, one["orders"], one["last_commit"] or "–", one["backup"], one["folder"])
        for name, one in told["shards"].items()
    ]
    show_table(("primary", "orders", "last commit", "from backup", "folder"), rows)


def verify(context: typer.Context, shard: ShardOption = None, as_json: JsonFlag = False) -> None:
    """Read every backup and all archived log again: sums right, no segment missing.

    Exit code 1 with the first file that is wrong. It proves the bytes; `drill` proves the restore.
    """
    with in_a_sentence():
        files = _backups(context).verify(shard)
    if as_json:
        emit_json({"files": files})
        return
    for name, number in files.items():
        say(f"{name}: {number} files are right." if number else f"{name}: no backup yet.")


def drill(
    context: typer.Context,
    shard: Annotated[str, typer.Option(help="The primary to drill on.")] = "shard-0",
    rows: Annotated[int, typer.Option(min=1, max=5_000_000, help="Rows at the backup.")] = 1000,
    history: Annotated[bool, typer.Option("--history", help="Show past drills, run none.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Drop a table on a running primary while it is written, restore it elsewhere, compare.

    The table is the drill's own; orders are not touched. Prints rows lost, RPO (from the moment
    aimed at back to the last commit recovered) and RTO (seconds until the copy was compared), and
    keeps them. Exit code 1 if a row was lost or differs.

    Examples:  ./lab month2 drill --rows 100000   ·   ./lab month2 drill --history
    """
    from month2_databases.shard_backups import drill_document

    with in_a_sentence():
        backups = _backups(context)
        if not history:
            _drilled(context, backups, shard, rows)
        past = backups.drills()
    if as_json:
        emit_json({"drills": [drill_document(one) for one in past]})
    else:
        _show_drills(past)
    if not history and not past[-1].passed:
        raise CommandFailed("The copy is not the table that was dropped: look at the last line.")


def _restored(
    context: typer.Context, target: Target, shard: list[str] | None, *, serve: bool
) -> dict[str, Any]:
    """Prepare all copies, then open them all: one that cannot be restored stops it before."""
    from month2_databases.shard_backups import opened
    from month2_databases.stack import Copies

    backups = _backups(context)
    with Copies(folder(context)) as copies:
        prepared = {
            name: backups.prepare(name, target, copies.into(name)) for name in backups.chosen(shard)
        }
        shown: dict[str, Any] = {}
        with contextlib.ExitStack() as running:
            for name, one in prepared.items():
                dsn = running.enter_context(copies.start(one))
                shown[name] = opened(dsn, one)
                if serve:
                    note(f"{name}: psql {dsn}")
            if serve:
                note("The copies stay open; Ctrl-C stops them.")
                with contextlib.suppress(KeyboardInterrupt):
                    while True:
                        time.sleep(3600)
    return {"shards": shown}


def _drilled(context: typer.Context, backups: ShardBackups, shard: str, rows: int) -> None:
    from month2_databases.stack import Copies

    with Copies(folder(context)) as copies:
        try:
            backups.drill(shard, copies.into(shard), copies.start, rows=rows)
        finally:
            copies.discard(shard)


def _show_drills(past: Sequence[DrillReport]) -> None:
    rows = [
        (
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            one.rows,
            human_bytes(one.backup_bytes),
            one.acknowledged,
            one.lost_rows,
            f"{one.rpo_s:.3f} s",
            f"{one.rto_s:.1f} s",
            "passed" if one.passed else "FAILED",
        )
        for one in past
    ]
    columns = ("at (UTC)", "rows", "backup", "written", "lost", "RPO", "RTO", "")
    show_table(columns, rows, title="drills")


def _backups(context: typer.Context) -> ShardBackups:
    from month2_databases.stack import shard_backups

    description(context)
    return shard_backups(folder(context))
