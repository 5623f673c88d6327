"""Letters that were settled long ago leave by themselves: the desk's task that never ends."""

from __future__ import annotations

import asyncio

from month3_messaging.deadletters.desk import Desk
from scalelab.errors import ScalelabError
from scalelab.telemetry import Log

CLEANER = "clean-up"
"""Who did it, in the audit."""

_AT_ONCE = 500


async def clean_forever(desk: Desk, *, keep_s: float, every_s: float, log: Log) -> None:
    """Clean away what was settled more than keep_s ago, a batch a transaction, every so often.

    A database that is away is tried again and said in the log.
    """
    while True:
        try:
            while cleaned := await desk.clean(older_than_s=keep_s, who=CLEANER, limit=_AT_ONCE):
                log.info("letters_cleaned", number=cleaned)
        except ScalelabError as error:
            log.warning("clean_up_failed", code=error.stable_code, error=error.message)
        await asyncio.sleep(every_s)
