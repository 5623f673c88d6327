"""Just enough of Kafka's wire protocol to ask a broker whether it serves: two requests, parsed.

ApiVersions v0 (key 18) is answered by every broker; Metadata (key 3) at a version from 4 to 8,
before the flexible encoding, names the brokers that are alive. Numbers are big-endian; an answer
is a 4-byte length, the correlation id, then the body. Source: the Kafka protocol guide.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from scalelab.errors import CorruptData

_API_VERSIONS, _METADATA = 18, 3
_CLIENT = b"scalelab"
_LARGEST_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True)
class Range:
    """Versions of one request that a broker accepts, both ends included."""

    lowest: int
    highest: int


def request(api: int, version: int, correlation: int, body: bytes) -> bytes:
    """One framed request with a version 1 header."""
    header = struct.pack(">hhih", api, version, correlation, len(_CLIENT)) + _CLIENT
    return struct.pack(">i", len(header) + len(body)) + header + body


def parse_api_versions(body: bytes) -> dict[int, Range]:
    """Body of an ApiVersions v0 answer → accepted versions by request key. CorruptData if torn."""
    try:
        error, count = struct.unpack_from(">hi", body, 0)
        rows = [struct.unpack_from(">hhh", body, 6 + 6 * i) for i in range(count)]
    except struct.error as cause:
        raise CorruptData("an ApiVersions answer is torn") from cause
    if error:
        raise CorruptData(f"ApiVersions answered error {error}")
    return {key: Range(lowest, highest) for key, lowest, highest in rows}


def parse_broker_count(body: bytes) -> int:
    """Body of a Metadata v4..v8 answer → how many brokers are alive. CorruptData if torn."""
    try:
        _throttle_ms, count = struct.unpack_from(">ii", body, 0)
    except struct.error as cause:
        raise CorruptData("a Metadata answer is torn") from cause
    return count


def living_brokers(host: str, port: int, *, timeout_s: float) -> int:
    """Ask one broker how many are alive. Raises OSError or CorruptData."""
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        versions = parse_api_versions(_ask(connection, _API_VERSIONS, 0, 1, b""))
        accepted = versions.get(_METADATA)
        if accepted is None or accepted.lowest > 8 or accepted.highest < 4:
            raise CorruptData(f"the broker accepts Metadata {accepted}, this client speaks 4 to 8")
        no_topics_no_creation = struct.pack(">i?", 0, False)
        version = min(8, accepted.highest)
        if version == 8:  # two more flags: cluster and topic authorized operations
            no_topics_no_creation += b"\0\0"
        return parse_broker_count(_ask(connection, _METADATA, version, 2, no_topics_no_creation))


def _ask(connection: socket.socket, api: int, version: int, correlation: int, body: bytes) -> bytes:
    connection.sendall(request(api, version, correlation, body))
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    if not 4 <= size <= _LARGEST_ANSWER:
        raise CorruptData(f"an answer of {size} bytes is not Kafka's")
    answer = _exactly(connection, size)
    (echoed,) = struct.unpack_from(">i", answer)
    if echoed != correlation:
        raise CorruptData(f"answer {echoed} to request {correlation}")
    return answer[4:]


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionError("the broker closed the connection")
        parts += part
    return bytes(parts)
