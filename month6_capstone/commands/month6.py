"""The group `month6` beside the shop's own commands, put together."""

from __future__ import annotations

from month6_capstone.commands.shop import app
from month6_capstone.commands.slots import month6

app.add_typer(month6, rich_help_panel="Stacks")
