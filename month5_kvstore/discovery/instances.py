"""An instance of a service: who it is, where it listens, and its bytes in a registry. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from scalelab.errors import CorruptData, InvalidInput

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """service, id: labels as in names of hosts, so that every registry and DNS can hold them.

    version: of what it runs, or "". Raises InvalidInput.
    """

    service: str
    id: str
    host: str
    port: int
    version: str = ""

    def __post_init__(self) -> None:
        check_label(self.service, "service")
        check_label(self.id, "id")
        if not self.host or not self.host.isascii() or not self.host.isprintable():
            raise InvalidInput(f"{self.host!r} is no address", field="host")
        if not 1 <= self.port <= _PORT_MAX:
            raise InvalidInput(f"{self.port} is no port", field="port")

    @property
    def url(self) -> str:
        """Base address, without a slash at the end."""
        return f"http://{self.host}:{self.port}"


def check_label(text: str, field: str) -> None:
    """Raises InvalidInput unless it is 1..63 of a-z, 0-9 and inner dashes."""
    if not _LABEL.fullmatch(text):
        raise InvalidInput(f"{text!r} is no name: a-z, 0-9 and dashes, up to 63", field=field)


def check_ttl(ttl_s: float) -> None:
    """Raises InvalidInput unless it is a time that a registry can hold: 0.1 s to a day."""
    if not 0.1 <= ttl_s <= 86_400:
        raise InvalidInput("a registration lasts 0.1 s to a day", field="ttl_s")


def encode(instance: Instance) -> bytes:
    """As registries keep it."""
    return json.dumps(asdict(instance), separators=(",", ":")).encode()


def decode(value: bytes) -> Instance:
    """Raises CorruptData for what `encode` did not write."""
    try:
        return Instance(**json.loads(value))
    except (TypeError, ValueError, InvalidInput) as error:
        raise CorruptData(f"this is no instance: {value[:80]!r}") from error
