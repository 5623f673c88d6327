"""A process that writes to a real folder and dies by SIGKILL at a named point.

    python -m tests.integration.month5.log.crashing_process FOLDER

Each line of standard input is `run point nth steps`: a child is forked for folder FOLDER/run and
writes `steps` batches, or dies when the point is reached for the nth time. For every batch that was
acknowledged it adds a byte to FOLDER/run.told. The answer is a line, `run died` or `run ended`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from random import Random

from month5_kvstore.log import DiskFile, Point, PosixDisk
from tests.unit.month5.log.crash_workload import Acknowledged, live, open_or_make

MIDDLE_OF_A_WRITE = "middle-of-a-write"
SEGMENT_BYTES = 3000


class DyingDisk(PosixDisk):
    """A real folder; the process ends when `point` was reached for the nth time."""

    def __init__(self, folder: Path, point: str, nth: int) -> None:
        super().__init__(folder)
        self._point, self._left = point, nth

    def reached(self, point: Point) -> None:
        self.met(point.value)

    def met(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def create(self, name: str) -> DiskFile:
        return HalfWritten(super().create(name), self)

    def append_to(self, name: str) -> DiskFile:
        return HalfWritten(super().append_to(name), self)


class HalfWritten:
    """A file whose writes come in two halves, with a point between them."""

    def __init__(self, file: DiskFile, disk: DyingDisk) -> None:
        self._file, self._disk = file, disk
        self.rewrite, self.sync = file.rewrite, file.sync
        self.truncate, self.close = file.truncate, file.close

    def write(self, data: bytes) -> int:
        taken = self._file.write(data[: len(data) // 2])
        self._disk.met(MIDDLE_OF_A_WRITE)
        return taken + self._file.write(data[taken:])


def child(folder: Path, run: str, point: str, nth: int, steps: int) -> None:
    """Open, live, open again, live on: `steps` batches in all."""
    disk = DyingDisk(folder / run, point, nth)
    told = os.open(folder / f"{run}.told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    known, chance = Acknowledged(), Random(run)
    for _ in range(2):
        log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
        live(log, disk, known, chance, steps // 2, lambda: _tell(told))
        log.close()


def _tell(told: int) -> None:
    os.write(told, b".")


def main(folder: Path) -> None:
    """Fork a child for each line."""
    for line in sys.stdin:
        run, point, nth, steps = line.split()
        pid = os.fork()
        if pid == 0:
            try:
                child(folder, run, point, int(nth), int(steps))
            finally:
                os._exit(0 if sys.exc_info()[0] is None else 3)
        _, status = os.waitpid(pid, 0)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        ended = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        outcome = "died" if died else "ended" if ended else f"failed {status}"
        sys.stdout.write(f"{run} {outcome}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
