"""The history of a running stack: moved to its object store and asked, as a person does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from month2_databases.stack import Stack
from scalelab.lab.cli.outcome import Exit
from tests.e2e.month2.test_commands import call, refused, told

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("versitygw_built")]
COUNT = ("archive", "ask", "SELECT count(*) AS orders, sum(amount_cents)::BIGINT AS c FROM orders")


def test_old_orders_leave_postgresql_and_stay_in_every_answer(stack: Stack, lab_root: Path) -> None:
    """Filled, moved, asked; then the oldest are archived, refused by name, and asked for."""
    assert stack.links
    filled = call(lab_root, "archive", "fill", "600", "--months", "24")
    assert (filled.exit_code, "600 orders" in filled.output) == (0, True)
    before = told(lab_root, *COUNT)
    assert (before["rows"][0]["orders"], before["cold_files"]) == (600, 0)
    moved = told(lab_root, "archive", "move", "--hot-months", "3")
    assert moved["files"] >= 19
    after = told(lab_root, *COUNT)
    assert after["rows"] == before["rows"]
    assert (after["hot_rows"], after["cold_rows"]) == (600 - moved["rows"], moved["rows"])
    assert told(lab_root, "archive", "move") == {"files": 0, "rows": 0, "bytes": 0}
    assert told(lab_root, "archive", "tiers")["archive"] >= 9
    refusal = refused(lab_root, *COUNT)
    assert "object_archived" in refusal.message
    files = told(lab_root, "archive", "files")["files"]
    assert (files[0]["tier"], files[-1]["tier"]) == ("archived", "cold")
    recent = told(lab_root, *COUNT, "--from", files[-1]["month"])
    assert recent["rows"][0]["orders"] == after["hot_rows"] + files[-1]["rows"]
    promise = told(lab_root, "archive", "restore", str(files[0]["file"]))
    assert promise["ready_at"] < promise["until"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ask", "DELETE FROM orders", "--from", "2090-01"), "bad_question"),
        (("ask", "--from", "January"), "invalid_input"),
        (("restore", "999999"), "no_such_file"),
    ],
)
def test_what_the_archive_cannot_do_is_said_with_its_code(
    stack: Stack, lab_root: Path, words: tuple[str, ...], code: str
) -> None:
    assert stack.links
    assert f"({code})" in refused(lab_root, "archive", *words).message


def test_without_a_stack_the_archive_says_how_to_start_one(tmp_path: Path) -> None:
    refusal = refused(tmp_path, "archive", "files")
    assert (refusal.exit_code, "./lab up month2" in refusal.message) == (Exit.USAGE, True)
