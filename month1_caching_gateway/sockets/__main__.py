"""Serve echoes, or send to an echo server and check what comes back."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from month1_caching_gateway.sockets.framing import FRAMINGS
from month1_caching_gateway.sockets.tcp_client import Deadlines, echo
from month1_caching_gateway.sockets.tcp_server import Closed, Limits, TcpEchoServer
from month1_caching_gateway.sockets.udp_echo import UdpEchoServer, echo_datagrams
from scalelab.errors import ScalelabError
from scalelab.web import install_stop_signals

_TEACH = """\
Two terminals show what the two protocols promise:

  1  python -m month1_caching_gateway.sockets serve --receive-buffer 4096
  2  python -m month1_caching_gateway.sockets send --udp --count 20000 --window 1
     python -m month1_caching_gateway.sockets send --udp --count 20000 --window 1000
     python -m month1_caching_gateway.sockets send --tcp --count 20000

With one datagram on its way at a time nothing is lost. With a thousand, the server's small receive
buffer overflows and the kernel drops the rest without a word: neither side gets an error, only the
numbers tell. TCP loses nothing: when the server's buffers are full, its window closes and the
sender has to wait. Try `kill -STOP` on the server while TCP sends: the sender stands still and
gives up at its own deadline, not before.

Watch the drops from outside: nstat -az UdpRcvbufErrors; and the windows: ss -ti.
"""


def main(arguments: list[str]) -> int:
    """Exit code 0 if all came back, 1 if not or if the peer is not there, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    work = _serve(options) if options.command == "serve" else _send(options)
    try:
        return asyncio.run(work)
    except (ScalelabError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m month1_caching_gateway.sockets",
        description=__doc__,
        epilog=_TEACH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="echo over TCP and UDP until Ctrl-C",
        description="Echo over TCP and UDP until Ctrl-C, then say what came.",
    )
    send = commands.add_parser(
        "send",
        help="send numbered messages and count what comes back",
        description="Send numbered messages, check and count what comes back.",
        epilog=_TEACH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for one in (serve, send):
        one.add_argument("--host", default="127.0.0.1")
        one.add_argument("--port", type=int, default=8180, help="of both protocols (8180)")
        one.add_argument(
            "--framing",
            choices=sorted(FRAMINGS),
            default="length",
            help="how TCP's bytes become messages",
        )
    serve.add_argument(
        "--receive-buffer",
        type=int,
        metavar="BYTES",
        help="of UDP; the kernel doubles it and counts its own bookkeeping in",
    )
    serve.add_argument("--idle-s", type=float, default=60.0, help="TCP: between messages (60)")
    serve.add_argument("--message-s", type=float, default=10.0, help="TCP: for one message (10)")
    kind = send.add_mutually_exclusive_group(required=True)
    kind.add_argument("--tcp", action="store_true", help="one connection, then half-close")
    kind.add_argument("--udp", action="store_true", help="datagrams, each with a number")
    send.add_argument("--count", type=int, default=1000, help="messages (1000)")
    send.add_argument("--size", type=int, default=200, help="bytes of one message (200)")
    send.add_argument("--window", type=int, default=1, help="UDP: on the way at once (1)")
    send.add_argument(
        "--patience-s",
        type=float,
        default=1.0,
        help="UDP: without an echo, then what is on its way counts as lost (1)",
    )
    return parser


async def _serve(options: argparse.Namespace) -> int:
    stop = asyncio.Event()
    install_stop_signals(stop)
    ends: Counter[str] = Counter()

    def closed(account: Closed) -> None:
        ends[account.end] += 1
        _say(f"{account.peer} {account.end}: {account.frames} frames, {account.bytes} bytes")

    tcp = TcpEchoServer(
        host=options.host,
        port=options.port,
        framing=FRAMINGS[options.framing],
        limits=Limits(idle_s=options.idle_s, message_s=options.message_s),
        on_closed=closed,
    )
    udp = UdpEchoServer(host=options.host, port=options.port, receive_buffer=options.receive_buffer)
    async with tcp, udp:
        _say(f"echo on {options.host}:{tcp.port}, TCP and UDP; Ctrl-C ends it")
        await stop.wait()
        await tcp.stop(within_s=options.message_s)
        seen = udp.traffic
    connections = ", ".join(f"{number} {end}" for end, number in sorted(ends.items())) or "none"
    _say(f"TCP connections: {connections}")
    _say(
        f"UDP datagrams: {seen.received} received, {seen.bytes} bytes, {seen.unsent} not sent back"
    )
    return 0


async def _send(options: argparse.Namespace) -> int:
    begun_s = time.monotonic()
    if options.tcp:
        messages = _messages(options.count, options.size)
        deadlines = Deadlines()
        back = await echo(
            options.host,
            options.port,
            messages,
            framing=FRAMINGS[options.framing],
            deadlines=deadlines,
        )
        _say(f"TCP: {back.frames} of {options.count} came back, {_took(begun_s)}")
        return 0 if back.frames == options.count else 1
    run = int.from_bytes(os.urandom(4))
    count = await echo_datagrams(
        options.host,
        options.port,
        run=run,
        count=options.count,
        size=options.size,
        window=options.window,
        patience_s=options.patience_s,
    )
    _say(
        f"UDP: {count.received} of {count.sent} came back, {count.lost} lost, "
        f"{count.duplicated} twice, {count.reordered} overtaken, {_took(begun_s)}"
    )
    return 0 if count.lost == 0 else 1


def _messages(count: int, size: int) -> Iterator[bytes]:
    return (str(number).encode().rjust(size, b".") for number in range(count))


def _took(begun_s: float) -> str:
    return f"{time.monotonic() - begun_s:.2f} s"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
