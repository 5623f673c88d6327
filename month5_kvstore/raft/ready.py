"""The driver's contract: what must be done, in which order.

    while (ready := raft.ready()) is not None:
        1. send    ready.sends_first     a leader's requests; may go out beside step 2
        2. write   ready.snapshot, then ready.entries, then ready.hard_state
                   and, if ready.must_sync, wait until they are on disk
        3. send    ready.sends           votes and acknowledgements: promises about step 2
        4. apply   ready.snapshot, then ready.committed, in order
        5. answer  ready.reads           each once its index is applied
        6. raft.advance(ready)

Messages may be lost, repeated and reordered; nothing else may. An entry replaces what stood at
its index on disk and everything behind it; a snapshot in a Ready replaces the whole log on disk
(the driver's own snapshots, made for `compact`, replace only the part that they cover).

Messages, ticks and proposals may be given to the core between `ready` and `advance`, while the
disk works; what follows from them waits for the next Ready, which is how writes of many callers
come to share one fsync. If a write fails the node stops: what is on disk is no longer known.

The core holds the driver to it: a second Ready while one is out, or another one given back, is
`ContractBroken`; a leader counts its own copy of an entry only after `advance`.
"""

from __future__ import annotations

from dataclasses import dataclass

from month5_kvstore.raft.messages import Message
from month5_kvstore.raft.records import Entry, HardState, Snapshot
from month5_kvstore.raft.state import ReadState


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """Effects to perform; see the module for the order. hard_state None: unchanged."""

    sends_first: tuple[Message, ...]
    snapshot: Snapshot | None
    entries: tuple[Entry, ...]
    hard_state: HardState | None
    must_sync: bool
    sends: tuple[Message, ...]
    committed: tuple[Entry, ...]
    reads: tuple[ReadState, ...]
