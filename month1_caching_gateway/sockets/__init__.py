"""Sockets: an echo over TCP and over UDP, and what each does when its receiver is too slow.

python -m month1_caching_gateway.sockets serve
python -m month1_caching_gateway.sockets send --help
"""

from month1_caching_gateway.sockets.datagrams import (
    Count,
    Datagram,
    Tally,
    encode,
    encode_end,
    parse,
)
from month1_caching_gateway.sockets.framing import (
    FRAMINGS,
    LENGTH,
    LINES,
    Decoder,
    Framing,
    LengthPrefixed,
    Lines,
    line,
    prefixed,
)
from month1_caching_gateway.sockets.tcp_client import Deadlines, Echoed, echo
from month1_caching_gateway.sockets.tcp_server import Closed, Limits, TcpEchoServer
from month1_caching_gateway.sockets.udp_echo import (
    Traffic,
    UdpEchoServer,
    echo_datagrams,
    open_receiver,
)

__all__ = [
    "FRAMINGS",
    "LENGTH",
    "LINES",
    "Closed",
    "Count",
    "Datagram",
    "Deadlines",
    "Decoder",
    "Echoed",
    "Framing",
    "LengthPrefixed",
    "Limits",
    "Lines",
    "Tally",
    "TcpEchoServer",
    "Traffic",
    "UdpEchoServer",
    "echo",
    "echo_datagrams",
    "encode",
    "encode_end",
    "line",
    "open_receiver",
    "parse",
    "prefixed",
]
