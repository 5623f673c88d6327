"""All commands of the month in one program."""

from __future__ import annotations

import typer

from month3_messaging.commands.letter_commands import deadletters
from month3_messaging.commands.stack_commands import month3

app = typer.Typer()
month3.add_typer(deadletters)
app.add_typer(month3, rich_help_panel="Stacks")
