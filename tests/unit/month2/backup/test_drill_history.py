"""The drills' history outlives a crash in the middle of a line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from month2_databases.backup import DrillReport, append_drill, read_drills
from scalelab.errors import CorruptData

REPORT = DrillReport(
    tool="FolderTool",
    at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    backup="b1",
    backup_bytes=1,
    rows=2,
    acknowledged=1,
    lost_rows=0,
    matches=True,
    rpo_s=0.1,
    rto_s=2.0,
)


def test_drills_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "drills.jsonl"
    append_drill(path, REPORT)
    append_drill(path, REPORT)
    assert read_drills(path) == [REPORT, REPORT]


def test_no_history_is_an_empty_one(tmp_path: Path) -> None:
    assert read_drills(tmp_path / "drills.jsonl") == []


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "drills.jsonl"
    append_drill(path, REPORT)
    with path.open("a") as file:
        file.write('{"tool": "Fol')
    assert read_drills(path) == [REPORT]


def test_any_other_bad_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "drills.jsonl"
    path.write_text("no drill\n")
    with pytest.raises(CorruptData):
        read_drills(path)
