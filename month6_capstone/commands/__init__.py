"""The shop's commands: `./lab demo`, `./lab verify`, and `./lab month6 …` on the running shop."""

from month6_capstone.commands.month6 import app
from month6_capstone.commands.shop import conclude

__all__ = ["app", "conclude"]
