"""Slots from one shard to another, from the command line.

    python -m month2_databases.resharding init                     tables, guards, the first map
    python -m month2_databases.resharding status                   the map and its moves
    python -m month2_databases.resharding move SLOTS TARGET        `move 0-31,40 shard-2`
    python -m month2_databases.resharding resume NAME              carry on after a kill
    python -m month2_databases.resharding abort NAME               take back before the switch

Settings come from RESHARD_… variables (see `MoverSettings`). One JSON document on standard output;
exit code 0 if the move is done, 1 if it was aborted, 2 for an error, which standard error explains.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any, cast

from month2_databases.resharding.command import (
    MoverSettings,
    abort,
    init,
    move,
    resume,
    status,
)
from month2_databases.resharding.steps import Step
from scalelab.errors import ScalelabError

_VERBS: dict[tuple[str, int], Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
    ("init", 0): init,
    ("status", 0): status,
    ("move", 2): move,
    ("resume", 1): resume,
    ("abort", 1): abort,
}


def main(arguments: list[str]) -> int:
    """Run one command; see the module's docstring."""
    verb = _VERBS.get((arguments[0], len(arguments) - 1)) if arguments else None
    if verb is None:
        sys.stderr.write((__doc__ or "") + "\n")
        return 2
    settings = cast(Callable[[], MoverSettings], MoverSettings)()
    try:
        told = asyncio.run(verb(settings, *arguments[1:]))
    except ScalelabError as error:
        sys.stderr.write(f"{error.stable_code}: {error.message}\n")
        return 2
    sys.stdout.write(json.dumps(told) + "\n")
    return 1 if told.get("step") == Step.ABORTED and arguments[0] != "abort" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
