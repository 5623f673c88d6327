"""The history of orders: filled, moved to Parquet in an object store, asked, archived, restored.

The object store is started for the time of a command; its files and keys stay with the stack.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from month2_databases.commands.running_stack import JsonFlag, description, folder
from scalelab.errors import InvalidInput
from scalelab.lab.cli.outcome import CommandFailed, Exit, emit_json, human_bytes, say, show_table
from scalelab.lab.cli.running import in_a_sentence, run

if TYPE_CHECKING:
    from month2_databases.archive_desk import ArchiveDesk

T = TypeVar("T")

archive = typer.Typer(
    name="archive",
    help="Old orders in an object store, still part of every answer.",
    no_args_is_help=True,
)

MONTHLY = (
    "SELECT strftime(placed_at, '%Y-%m') AS month, count(*) AS orders,"
    " sum(amount_cents)::BIGINT AS cents FROM orders GROUP BY month ORDER BY month"
)


@archive.command()
def fill(
    context: typer.Context,
    orders: Annotated[int, typer.Argument(min=1, max=200_000, help="How many.")] = 10_000,
    months: Annotated[int, typer.Option(min=1, max=120, help="Back to how long ago.")] = 18,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 1,
) -> None:
    """Add ended orders of past months to the history, all of them hot in PostgreSQL.

    The history is a database of its own, on the spare shard; the order book is not touched.
    """

    async def work(desk: ArchiveDesk) -> int:
        return await desk.fill(orders, months, Random(f"{seed}-{orders}-{months}"))

    say(f"{_at_the_desk(context, work)} orders are in PostgreSQL. Try: ./lab month2 archive move.")


@archive.command()
def move(
    context: typer.Context,
    hot_months: Annotated[int, typer.Option(min=0, max=1200, help="Whole months that stay.")] = 3,
    as_json: JsonFlag = False,
) -> None:
    """Move cold months to Parquet files; killed at any point, the next run goes on.

    A row goes only in the transaction that makes its file cold, after the file was read back.
    """

    async def work(desk: ArchiveDesk) -> dict[str, int]:
        return await desk.move(hot_months)

    told = _at_the_desk(context, work)
    if as_json:
        emit_json(told)
        return
    size = human_bytes(told["bytes"])
    say(f"{told['rows']} orders moved, to {told['files']} files of {size} together.")


@archive.command()
def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="A SELECT over `orders`, as DuckDB has it.")] = (
        MONTHLY
    ),
    first: Annotated[str, typer.Option("--from", help="First month, as 2026-01.")] = "",
    last: Annotated[str, typer.Option("--to", help="Last month, as 2026-03.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Ask hot and cold orders together; the answer says how many came from where.

    An archived month is refused by name: leave it out, or `restore` its file.

    Examples:  ./lab month2 archive ask --from 2026-01
               ./lab month2 archive ask "SELECT count(*) FROM orders WHERE country = 'fr'"
    """

    with in_a_sentence():
        since, until = _month(first), _month(last)

    async def work(desk: ArchiveDesk) -> dict[str, Any]:
        return await desk.ask(question, since, until)

    told = _at_the_desk(context, work)
    if as_json:
        emit_json(told)
        return
    if told["rows"]:
        show_table(tuple(told["rows"][0]), [tuple(one.values()) for one in told["rows"]])
    say(
        f"Over {told['hot_rows']} hot rows and {told['cold_rows']} of {told['cold_files']} files "
        f"({human_bytes(told['cold_bytes'])}); {told['expired_rows']} have expired."
    )


@archive.command()
def files(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List what has left PostgreSQL: month, rows, size, tier, and restores."""

    async def work(desk: ArchiveDesk) -> list[dict[str, Any]]:
        return await desk.files()

    told = _at_the_desk(context, work)
    if as_json:
        emit_json({"files": told})
        return
    rows = [
        (
            one["file"],
            one["month"],
            one["rows"],
            human_bytes(one["bytes"]),
            one["tier"],
            one["readable_from"] or "–",
            one["readable_until"] or "–",
        )
        for one in told
    ]
    columns = ("file", "month", "rows", "size", "tier", "readable from", "until")
    show_table(columns, rows)


@archive.command()
def tiers(
    context: typer.Context,
    archive_after: Annotated[int, typer.Option(min=0, help="Days after a month's end.")] = 365,
    expire_after: Annotated[int, typer.Option(min=1, help="Days after a month's end.")] = 2555,
    as_json: JsonFlag = False,
) -> None:
    """Do what the rules ask for now: archive, finish a restore, end one, expire; then tidy up."""

    async def work(desk: ArchiveDesk) -> dict[str, int]:
        from month2_databases.archive import Rules

        rules = Rules(timedelta(days=archive_after), timedelta(days=expire_after))
        return await desk.tiers(rules)

    told = _at_the_desk(context, work)
    if as_json:
        emit_json(told)
        return
    say(", ".join(f"{step}: {count}" for step, count in told.items()) or "Nothing was due.")


@archive.command()
def restore(
    context: typer.Context,
    file: Annotated[int, typer.Argument(help="An archived file, as `files` lists it.")],
    retrieval: Annotated[
        str, typer.Option(help="expedited (5 min), standard (5 h), bulk (12 h).")
    ] = "expedited",
    keep_days: Annotated[int, typer.Option(min=1, max=365, help="How long to read it.")] = 7,
    as_json: JsonFlag = False,
) -> None:
    """Ask for an archived file; `tiers` makes it readable once its time has come."""

    async def work(desk: ArchiveDesk) -> dict[str, Any]:
        return await desk.restore(file, retrieval, timedelta(days=keep_days))

    told = _at_the_desk(context, work)
    if as_json:
        emit_json(told)
        return
    say(f"Readable from {told['ready_at']} to {told['until']}, once `tiers` has come by.")


def _month(text: str) -> date | None:
    """The first day of a month written as `2026-01`; None for an empty text."""
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month has no zone
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no month: write it as 2026-01", field="month") from error


def _at_the_desk(context: typer.Context, work: Callable[[ArchiveDesk], Awaitable[T]]) -> T:
    """`work` with the history of the running stack and its object store, in one sentence if bad."""
    try:
        from month2_databases.archive_desk import ArchiveDesk
        from month2_databases.commands.object_store import running_store
    except ModuleNotFoundError as error:
        raise CommandFailed(
            f"The archive needs the package {error.name}, which the small set of packages lacks. "
            "Try: ./lab experiment, which installs the larger set, then again.",
            Exit.MISSING,
        ) from error
    from month2_databases.stack import HISTORY
    from scalelab.clock import SystemClock

    dsn = description(context)["history"][HISTORY]
    with in_a_sentence(), running_store(folder(context)) as store:

        async def seated() -> T:
            async with ArchiveDesk(dsn, store, clock=SystemClock()) as desk:
                return await work(desk)

        return run(seated())
