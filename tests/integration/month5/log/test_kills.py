"""kill -9 of a process that writes to a real folder, at every named point: nothing is lost.

The workload is drawn from the run's name, so the judge knows what the n batches were that the dead
process was told are on the disk.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from month5_kvstore.log import MemoryDisk, Point, PosixDisk, SegmentedLog
from tests.fixtures.tiers import Count
from tests.integration.month5.log.crashing_process import MIDDLE_OF_A_WRITE, SEGMENT_BYTES
from tests.unit.month5.log.crash_workload import Acknowledged, live, lost, open_or_make

STEPS = 60
POINTS = [MIDDLE_OF_A_WRITE, *(point.value for point in Point)]
# How often a life of 60 batches surely comes by; of those not named, once.
OFTEN = {
    MIDDLE_OF_A_WRITE: 40,
    "batch-taken": 40,
    "batch-written": 40,
    "batch-synced": 40,
    "batch-done": 40,
    "segment-created": 3,
    "segment-written": 3,
    "segment-synced": 3,
    "segment-named": 3,
    "rotation-begun": 2,
    "rotation-done": 2,
    "opened": 2,
    "tail-synced": 2,
}


class Crasher:
    """The process that forks one child a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.month5.log.crashing_process", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, name: str, point: str, nth: int, steps: int = STEPS) -> str:
        """How the child ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{name} {point} {nth} {steps}\n")
        stdin.flush()
        answer = stdout.readline().split(maxsplit=1)
        assert answer[0] == name
        return answer[1].strip()

    def told(self, name: str) -> int:
        """Batches that were acknowledged."""
        path = self.folder / f"{name}.told"
        return path.stat().st_size if path.exists() else 0

    def close(self) -> None:
        self._process.communicate("", timeout=60)


@pytest.fixture
def crasher(tmp_path: Path) -> Iterator[Crasher]:
    made = Crasher(tmp_path)
    yield made
    made.close()


def reopened(crasher: Crasher, name: str) -> SegmentedLog:
    return open_or_make(PosixDisk(crasher.folder / name), segment_bytes=SEGMENT_BYTES)


def expected(name: str, batches: int) -> Acknowledged:
    """What that many batches of the run made, and what the next one would have."""
    disk, known, chance = MemoryDisk(), Acknowledged(), Random(name)
    log = open_or_make(disk, segment_bytes=1 << 20)
    live(log, disk, known, chance, batches)
    sure = {number: group.copy() for number, group in known.possible.items()}
    live(log, disk, known, chance, 1)
    return Acknowledged(sure, known.possible)


def judge(crasher: Crasher, name: str) -> list[str]:
    log = reopened(crasher, name)
    try:
        return lost(log, expected(name, crasher.told(name)))
    finally:
        log.close()


@pytest.mark.timeout(900)
def test_no_kill_at_a_named_point_loses_an_acknowledged_record(
    crasher: Crasher, count: Count
) -> None:
    """Every point, 20 times each with --nightly; the first kill of each run is at that point."""
    for attempt in range(count(20, share=0.05)):
        for point in POINTS:
            name = f"{point}-{attempt}"
            if point == "tail-cut":
                nth = 1 + Random(name).randrange(OFTEN[MIDDLE_OF_A_WRITE])
                assert crasher.run(name, MIDDLE_OF_A_WRITE, nth) == "died"
                assert crasher.run(name, point, 1, steps=0) in ("died", "ended")
            else:
                nth = 1 + Random(name).randrange(OFTEN.get(point, 1))
                assert crasher.run(name, point, nth) == "died", name
            assert judge(crasher, name) == [], name


def test_there_are_at_least_25_named_points() -> None:
    assert len(set(POINTS)) >= 25


def test_the_judge_sees_a_frame_that_is_gone(crasher: Crasher) -> None:
    """The last acknowledged one, cut off as if it had never been written."""
    assert crasher.run("whole", "none", 1) == "ended"
    assert crasher.told("whole") == STEPS
    assert judge(crasher, "whole") == []
    last = sorted((crasher.folder / "whole").glob("*.wal"))[-1]
    content = last.read_bytes()
    last.write_bytes(content[: content.rfind(b"SLF\x01")])
    assert judge(crasher, "whole") != []
