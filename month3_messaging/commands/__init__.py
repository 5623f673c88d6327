"""The month's commands: `./lab month3 …` on a running stack."""

from month3_messaging.commands.month3 import app

__all__ = ["app"]
