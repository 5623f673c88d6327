"""The month's commands: `./lab simulate`, and `./lab month5 …` on a running stack."""

from month5_kvstore.commands.month5 import app

__all__ = ["app"]
