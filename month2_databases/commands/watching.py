"""What needs a person: slots, archives, transactions in doubt, schemas that are behind."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from month2_databases.commands.running_stack import JsonFlag, of_primaries, primaries, register
from scalelab.lab.cli.outcome import CommandFailed, emit_json, human_bytes, say, show_table
from scalelab.lab.cli.running import run


def slots(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show replication slots, whose they are and what log they hold back; and the archives.

    A slot without its consumer fills the disk, or is lost at `max_slot_wal_keep_size` and the
    consumer must begin anew. Exit code 1 if something is lost or about to be.
    """
    from month2_databases import shard_watch

    told = run(shard_watch.slots(primaries(context)))
    alerts = [(name, alert) for name, one in told.items() for alert in one["alerts"]]
    if as_json:
        emit_json(told)
    else:
        rows = [
            (
                name,
                one["slot"],
                one["owner"] or "nobody",
                "yes" if one["active"] else "no",
                one["status"],
                human_bytes(one["kept_bytes"]),
                human_bytes(one["kept_max_bytes"]),
            )
            for name, primary in told.items()
            for one in primary["slots"]
        ]
        show_table(("primary", "slot", "whose", "active", "log", "holds", "at most"), rows)
        for name, alert in alerts:
            what = f"slot {alert['slot']}" if alert["slot"] else "its log"
            say(f"{alert['severity']}: {name}, {what}, {alert['trouble']}: {alert['advice']}")
    errors = sum(alert["severity"] == "error" for _, alert in alerts)
    if errors:
        raise CommandFailed(f"{errors} of these need somebody now; each line says what to do.")


def in_doubt(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List transactions over several shards that are prepared and not yet told how they end.

    Their coordinator is at work, or it died between the two phases; then their rows stay locked
    until `recover`.
    """
    from month2_databases import shard_watch

    told = run(shard_watch.in_doubt(primaries(context), register(context)))
    if as_json:
        emit_json(told)
        return
    for tx, names in told.items():
        say(f"{tx}: prepared on {', '.join(names)}")
    say("Try: ./lab month2 recover." if told else "No transaction is in doubt.")


def recover(
    context: typer.Context,
    older_than: Annotated[float, typer.Option(min=0, help="Seconds since it prepared.")] = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """End transactions in doubt as was decided: commit where a decision was written, else abort.

    Safe beside a living coordinator: whoever writes the decision first has the word. Repeatable; a
    shard that is down is told the next time.
    """
    from month2_databases import shard_watch

    work = shard_watch.recover(primaries(context), register(context), older_than_s=older_than)
    told = run(work)
    if as_json:
        emit_json(told)
        return
    for tx, outcome in told.items():
        say(f"{tx}: {outcome}")
    say(f"{len(told)} ended." if told else "Nothing that old was in doubt.")


def migrate(
    context: typer.Context,
    phase: Annotated[str, typer.Option(help="expand, backfill or contract.")] = "expand",
    as_json: JsonFlag = False,
) -> None:
    """Bring the order book's schema on every shard up to a phase; a stopped run is carried on.

    EXPAND adds what new code needs, BACKFILL fills it, CONTRACT removes what only old code needed
    and begins on no shard before all have the rest. Nobody waits behind it for longer than a
    second. Exit code 1 if a shard could not be brought along.
    """
    from month2_databases import shard_watch
    from month2_databases.orderbook import MIGRATIONS

    told = run(shard_watch.migrate(of_primaries(context, "dsns"), MIGRATIONS, phase))
    if as_json:
        emit_json(told)
    else:
        rows = [(name, at or "empty") for name, at in told["versions"].items()]
        show_table(("primary", "revision"), rows)
    if not told["complete"]:
        raise CommandFailed(f"Not all shards are there: {_what_is_missing(told)}. Try again.")


def _what_is_missing(told: dict[str, Any]) -> str:
    """Why a migration is not complete, on one line."""
    reasons = [f"{name}: {why}" for name, why in told["failed"].items()]
    if told["held"]:
        waits = ", ".join(told["held"]["waits_for"])
        reasons.append(f"{told['held']['revision']} waits for {waits}")
    return "; ".join(reasons)
