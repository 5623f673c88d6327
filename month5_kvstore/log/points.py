"""Named places in the code where a process may die, for tests that let it.

The disk is told when one is reached. A real disk does nothing; a test's disk ends the process.
"""

from __future__ import annotations

from enum import StrEnum


class Point(StrEnum):
    """Between two steps that a crash may part."""

    IDENTITY_CREATED = "identity-created"
    IDENTITY_WRITTEN = "identity-written"
    IDENTITY_SYNCED = "identity-synced"
    IDENTITY_NAMED = "identity-named"
    SEGMENT_CREATED = "segment-created"
    SEGMENT_WRITTEN = "segment-written"
    SEGMENT_SYNCED = "segment-synced"
    SEGMENT_NAMED = "segment-named"
    BATCH_TAKEN = "batch-taken"
    BATCH_WRITTEN = "batch-written"
    BATCH_SYNCED = "batch-synced"
    BATCH_DONE = "batch-done"
    ROTATION_BEGUN = "rotation-begun"
    ROTATION_DONE = "rotation-done"
    SNAPSHOT_CREATED = "snapshot-created"
    SNAPSHOT_HALF_WRITTEN = "snapshot-half-written"
    SNAPSHOT_WRITTEN = "snapshot-written"
    SNAPSHOT_SYNCED = "snapshot-synced"
    SNAPSHOT_RENAMED = "snapshot-renamed"
    SNAPSHOT_NAMED = "snapshot-named"
    SNAPSHOT_MARKED = "snapshot-marked"
    SEGMENT_DROPPED = "segment-dropped"
    SEGMENTS_DROPPED = "segments-dropped"
    SNAPSHOT_DROPPED = "snapshot-dropped"
    OPENED = "opened"
    TAIL_CUT = "tail-cut"
    TAIL_SYNCED = "tail-synced"
