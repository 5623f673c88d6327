"""The client's own record."""

from __future__ import annotations

import json
from pathlib import Path

from month6_capstone.load import Attempt, ClientLog, body_sha


def test_a_line_is_on_disk_before_the_next_attempt(tmp_path: Path) -> None:
    """Each attempt is flushed as it is written, so a crash of the load loses none it reported."""
    path = tmp_path / "runs" / "client.jsonl"
    attempt = Attempt("2026-01-01T00:00:00+00:00", "u", "k", 1, "accepted", 202, "o", body_sha(b""))
    with ClientLog(path) as log:
        log.write(attempt)
        assert json.loads(path.read_text()) == {
            "at": "2026-01-01T00:00:00+00:00",
            "user_id": "u",
            "key": "k",
            "attempt": 1,
            "outcome": "accepted",
            "status": 202,
            "order_id": "o",
            "body_sha": body_sha(b""),
        }


def test_a_second_run_appends(tmp_path: Path) -> None:
    """The log is append-only: opening it again keeps what it holds."""
    path = tmp_path / "client.jsonl"
    for number in (1, 2):
        with ClientLog(path) as log:
            log.write(Attempt("t", "u", "k", number, "unknown", None, None, "s"))
    assert len(path.read_text().splitlines()) == 2
