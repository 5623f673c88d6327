"""A `DelayProxy` as a process: distance for one port, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence

from scalelab.lab.faults.delay_proxy import DelayProxy
from scalelab.lab.faults.line import Line


async def _serve(proxy: DelayProxy) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with proxy:
        await stop.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """The process's entry."""
    parser = argparse.ArgumentParser(prog="faults", description="Distance, for one port.")
    parser.add_argument("--listen", type=int, required=True, metavar="PORT")
    parser.add_argument("--to", type=int, required=True, metavar="PORT")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="one way")
    parser.add_argument("--jitter-ms", type=float, default=0.0, help="at most, one way")
    parser.add_argument("--bytes-per-s", type=float, default=None, help="each way")
    told = parser.parse_args(arguments)
    line = Line(told.delay_ms / 1000, told.jitter_ms / 1000, told.bytes_per_s)
    asyncio.run(_serve(DelayProxy(told.to, up=line, down=line, port=told.listen)))


if __name__ == "__main__":
    main()
