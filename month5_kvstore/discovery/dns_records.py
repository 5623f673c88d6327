"""One question of DNS and its answer: SRV records, with the addresses that come beside them. Pure.

Enough to ask a registry by name, and no resolver: one question a message, no cache, no recursion.
Source: RFC 1035 (sections 4.1 and 4.1.4), RFC 2782 (SRV).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from scalelab.errors import CorruptData, InvalidInput, Unavailable

_SRV, _A, _INTERNET = 33, 1, 1
_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_ANSWER, _TRUNCATED, _CODE = 0x8000, 0x0200, 0x000F
_NO_SUCH_NAME = 3
_POINTERS_MAX = 16


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a service is served: what an SRV record and the address beside it say together."""

    host: str
    port: int


def question(number: int, name: str) -> bytes:
    """Ask for the SRV records of a name. number: 0..65535. Raises InvalidInput."""
    parts = [part.encode("ascii", "replace") for part in name.rstrip(".").split(".")]
    if any(not 1 <= len(part) <= 63 for part in parts):
        raise InvalidInput(f"{name!r} is no name", field="name")
    asked = b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    return _HEADER.pack(number, 0, 1, 0, 0, 0) + asked + struct.pack("!HH", _SRV, _INTERNET)


def endpoints(message: bytes, number: int) -> tuple[Endpoint, ...]:
    """What an answer to that question says, sorted; () where there is no such name.

    Raises CorruptData for what is no answer to it, Unavailable if the server could not answer or
    the answer was cut off (ask by TCP, or ask Consul by HTTP).
    """
    try:
        return _endpoints(message, number)
    except (struct.error, IndexError, ValueError) as error:
        raise CorruptData(f"this is no message of DNS: {message[:40]!r}") from error


def _endpoints(message: bytes, number: int) -> tuple[Endpoint, ...]:
    told, flags, questions, answers, authorities, others = _HEADER.unpack_from(message)
    if told != number or not flags & _ANSWER:
        raise CorruptData("this answers another question")
    if flags & _CODE == _NO_SUCH_NAME:
        return ()
    if flags & (_CODE | _TRUNCATED):
        raise Unavailable(f"the name server says {flags:#06x}", code="dns")
    place = _HEADER.size
    for _ in range(questions):
        _, place = _name(message, place)
        place += 4
    targets: list[tuple[str, int]] = []
    addresses: dict[str, str] = {}
    for _ in range(answers + authorities + others):
        name, place = _name(message, place)
        kind, _, _, length = _RECORD.unpack_from(message, place)
        place += _RECORD.size
        if kind == _SRV:
            (port,) = struct.unpack_from("!H", message, place + 4)
            targets.append((_name(message, place + 6)[0], port))
        elif kind == _A:
            addresses[name] = str(ipaddress.IPv4Address(message[place : place + length]))
        place += length
    return tuple(sorted(Endpoint(addresses.get(name, name), port) for name, port in targets))


def _name(message: bytes, place: int) -> tuple[str, int]:
    """A name, and the place behind it; parts may stand elsewhere, where a pointer leads."""
    parts: list[str] = []
    behind: int | None = None
    for _ in range(_POINTERS_MAX * 8):
        length = message[place]
        if length & 0xC0 == 0xC0:
            behind = place + 2 if behind is None else behind
            place = (length & 0x3F) << 8 | message[place + 1]
            continue
        if not length:
            return ".".join(parts), place + 1 if behind is None else behind
        parts.append(message[place + 1 : place + 1 + length].decode("ascii").lower())
        place += 1 + length
    raise ValueError("a name that leads to itself")
