"""The states of one exchange; exchange.py draws how they follow each other."""

from __future__ import annotations


class Phase:
    """Where the request is. Plain constants: an Enum's member costs a call each time it is read."""

    ADMITTING = "admitting"
    BUFFERING = "buffering"
    OPENING = "opening"
    SENDING = "sending"
    ANSWERING = "answering"
    DONE = "done"
