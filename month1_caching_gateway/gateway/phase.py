"""The states of one exchange; exchange.py draws how they follow each other."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where the request is."""

    ADMITTING = "admitting"
    BUFFERING = "buffering"
    OPENING = "opening"
    SENDING = "sending"
    ANSWERING = "answering"
    DONE = "done"
