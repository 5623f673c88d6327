"""The group `month2` and its commands, put together."""

from __future__ import annotations

import typer

from month2_databases.commands import archiving, backups, moving, watching

_MOVING, _PAST, _WATCH = "Slots that move", "Backups and old orders", "What needs a person"

app = typer.Typer()
month2 = typer.Typer(
    name="month2",
    help="The databases month: move slots, take and restore backups, see what needs a person.",
    no_args_is_help=True,
)
app.add_typer(month2, rich_help_panel="Stacks")

for _command in (moving.orders, moving.shards, moving.move, moving.resume, moving.abort):
    month2.command(rich_help_panel=_MOVING)(_command)
for _command in (backups.backup, backups.restore, backups.verify, backups.prune, backups.drill):
    month2.command(rich_help_panel=_PAST)(_command)
for _command in (watching.slots, watching.recover, watching.migrate):
    month2.command(rich_help_panel=_WATCH)(_command)
month2.command("in-doubt", rich_help_panel=_WATCH)(watching.in_doubt)
month2.add_typer(archiving.archive, rich_help_panel=_PAST)
