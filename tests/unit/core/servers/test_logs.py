"""Logs of running children stay bounded, and the child never notices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scalelab.lab.servers.logs import keep_small, opened

# Writes 2,000 bytes, waits for a word, writes one line more, and ends.
_CHILD = "print('x' * 1999, flush=True); input(); print('after', flush=True)"


def test_a_log_past_the_limit_is_put_aside_while_its_writer_runs(tmp_path: Path) -> None:
    """The writer's next line is the first of the emptied log; the older text is one file away."""
    log = tmp_path / "server.log"
    with opened(log) as output:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=output, text=True
        )
    try:
        while log.stat().st_size < 2000:
            assert child.poll() is None
        assert keep_small(tmp_path, limit_bytes=1000) == [log]
    finally:
        child.communicate("go on\n", timeout=30)
    assert log.read_text() == "after\n"
    older = (tmp_path / "server.log.1").read_text()
    assert older.startswith("--- ")
    assert older.endswith("x\n")


def test_a_log_within_the_limit_is_left_alone(tmp_path: Path) -> None:
    """Exactly the limit is still within it."""
    (tmp_path / "server.log").write_bytes(b"x" * 1000)
    assert keep_small(tmp_path, limit_bytes=1000) == []
    assert not (tmp_path / "server.log.1").exists()


def test_one_older_generation_is_kept(tmp_path: Path) -> None:
    """Two files a server, whatever it writes: the disk is bounded."""
    log = tmp_path / "server.log"
    for text in ("first", "second", "third"):
        log.write_text(text)
        assert keep_small(tmp_path, limit_bytes=1) == [log]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.log", "server.log.1"]
    assert (tmp_path / "server.log.1").read_text() == "third"


def test_only_the_named_kind_is_cut(tmp_path: Path) -> None:
    """A server's own folder holds more than request logs: a journal is nobody's to empty."""
    for name in ("access.log", "journal.log"):
        (tmp_path / name).write_text("x" * 10)
    assert keep_small(tmp_path, limit_bytes=1, pattern="access.log") == [tmp_path / "access.log"]
    assert (tmp_path / "journal.log").read_text() == "x" * 10


def test_no_logs_yet_is_fine(tmp_path: Path) -> None:
    """A runtime looks before its first server has started."""
    assert keep_small(tmp_path / "logs") == []
