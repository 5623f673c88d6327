"""Where pgBackRest comes from; no wheel carries it."""

from __future__ import annotations

from scalelab.lab.servers.providers import Recipe

RECIPE = Recipe(
    server="pgbackrest",
    program="pgbackrest",
    minimum=(2, 40),
    version_flag="version",
    version=r"pgBackRest (\d+(?:\.\d+)+)",
    packages=("pgbackrest",),
)
