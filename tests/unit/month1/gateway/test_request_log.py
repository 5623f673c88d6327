"""The request log: valid JSON whatever a caller sends, bounded whatever the sink does."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.gateway.request_log import Record, RequestLog


def record(path: str = "/", subject: str = "u", wait_s: float | None = None) -> Record:
    return Record(
        at_s=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC).timestamp(),
        request_id="r",
        trace_id="t",
        method="GET",
        path=path,
        route="/{id}",
        status=200,
        code="",
        upstream="app",
        subject=subject,
        key_id="k1",
        client="::1",
        bytes_in=1,
        bytes_out=2,
        attempts=1,
        total_s=0.0012345,
        upstream_s=0.001,
        wait_s=wait_s,
    )


@given(path=st.text(), subject=st.text())
def test_a_line_is_one_json_object_whatever_it_holds(path: str, subject: str) -> None:
    """Quotes, line ends and control characters cannot forge a second line or field."""
    line = record(path, subject).line()
    assert "\n" not in line
    read = json.loads(line)
    assert (read["path"], read["subject"], read["ts"]) == (
        path,
        subject,
        "2026-01-02T03:04:05.678+00:00",
    )
    assert (read["total_ms"], read["upstream_ms"], read["wait_ms"]) == (1.234, 1.0, None)


async def test_a_full_queue_drops_the_newest_and_counts_them() -> None:
    """A sink that is too slow costs log lines, not memory."""
    written: list[bytes] = []
    log = RequestLog(written.append, flush_s=1.0, max_pending=3)
    for number in range(5):
        log.add(record(f"/{number}"))
    await log.flush()
    assert [json.loads(line)["path"] for line in b"".join(written).splitlines()] == [
        "/0",
        "/1",
        "/2",
    ]
    assert log.dropped == 2


async def test_a_sink_that_fails_loses_its_batch_and_the_log_goes_on() -> None:
    """A full disk is no reason to stop serving."""
    fail = True
    written: list[bytes] = []

    def sink(batch: bytes) -> None:
        if fail:
            raise OSError("no space left")
        written.append(batch)

    log = RequestLog(sink, flush_s=1.0, max_pending=10)
    log.add(record())
    await log.flush()
    fail = False
    log.add(record())
    await log.flush()
    assert (log.dropped, len(written)) == (1, 1)
