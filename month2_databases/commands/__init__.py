"""The month's commands: `./lab month2 …` on the stack that `./lab up month2` has started."""

from month2_databases.commands.month2 import app

__all__ = ["app"]
