"""Collect, then judge: the whole of `./lab verify`."""

from __future__ import annotations

import asyncio

from month6_capstone.truth.collect import collect
from month6_capstone.truth.rules import judge
from month6_capstone.truth.settings import TruthSettings
from scalelab.lab.verify import Report


def reconcile(settings: TruthSettings) -> Report:
    """Read every store and check every rule. Blocking; not for use inside a running event loop.

    Call it when the load has stopped and the backlogs are drained: an order that is still on its
    way is reported as stuck. Raises Unavailable or CorruptData if a store cannot be read.
    """
    return judge(asyncio.run(collect(settings)))
