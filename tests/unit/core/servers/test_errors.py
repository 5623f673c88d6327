"""The evidence in a message: the end of a log, small and on one line."""

from __future__ import annotations

from pathlib import Path

from scalelab.lab.servers.errors import evidence, log_tail


def test_the_last_lines_are_quoted_on_one_line(tmp_path: Path) -> None:
    """Blank lines are dropped; a long line is cut from its beginning."""
    log = tmp_path / "x.log"
    log.write_text("one\n\ntwo\n  three \n\n")
    assert log_tail(log, lines=2) == "two | three"
    log.write_text("begin" + "x" * 9000 + "end")
    assert len(log_tail(log)) == 500
    assert log_tail(log).endswith("end")


def test_no_log_and_strange_bytes_are_no_error(tmp_path: Path) -> None:
    """Evidence is told as far as there is any."""
    log = tmp_path / "x.log"
    assert log_tail(log) == ""
    assert "is empty" in evidence(log)
    log.write_bytes(b"\xff\xfe broken\n")
    assert "broken" in evidence(log)
