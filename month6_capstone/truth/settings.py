"""Where the stores are that a verdict reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from scalelab.errors import InvalidInput

TOPICS = ("orders.order", "payments.payment", "inventory.stock")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "orders.order": ("payments", "inventory"),
    "payments.payment": ("orders",),
    "inventory.stock": ("orders",),
}


def _dead_letter_topics() -> tuple[str, ...]:
    return tuple(f"{topic}.{group}.dlq" for topic, groups in GROUPS.items() for group in groups)


@dataclass(frozen=True, slots=True)
class TruthSettings:
    """Addresses of all stores. DSNs need read access only.

    shards: name → DSN of each order shard's primary. client_log: None if no client kept one.
    timeout_s: for reading any one store.
    """

    shards: Mapping[str, str]
    payments: str
    inventory: str
    kafka_bootstrap: str
    book_path: Path
    client_log: Path | None = None
    topics: tuple[str, ...] = TOPICS
    dead_letter_topics: tuple[str, ...] = field(default_factory=_dead_letter_topics)
    timeout_s: float = 60.0


def read_description(path: Path, *, client_log: Path | None = None) -> TruthSettings:
    """Settings from the file in which a running shop says where its stores are.

    Raises InvalidInput if the file is missing or is no such description.
    """
    try:
        document = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        return TruthSettings(
            shards=cast("dict[str, str]", document["shards"]),
            payments=str(document["payments"]),
            inventory=str(document["inventory"]),
            kafka_bootstrap=str(document["kafka_bootstrap"]),
            book_path=Path(document["book_path"]),
            client_log=client_log,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} does not describe a shop: {error!r}") from error
