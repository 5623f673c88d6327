"""All commands of the month in one program."""

from __future__ import annotations

import typer

from month5_kvstore.commands.simulate import simulate
from month5_kvstore.commands.store import month5

app = typer.Typer()
app.command("simulate", rich_help_panel="Course")(simulate)
app.add_typer(month5, rich_help_panel="Stacks")
