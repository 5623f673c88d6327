"""A write through a read session does not type-check; a write through a write session does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]

SOURCE = """
from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, Table, insert, select, text, update

from month2_databases.replication import ANY_REPLICA, ClientSession, Reading, Writing
from month2_databases.replication.sqlalchemy_sessions import SqlReading

NOTE = Table("note", MetaData(), Column("v", Integer))


async def rename(writing: Writing) -> None:
    await writing.execute("UPDATE note SET v = 1")


async def fine(client: ClientSession, sql: SqlReading) -> None:
    async with client.write() as writing:
        await rename(writing)
        await writing.fetch_one("SELECT 1")
    async with client.read(ANY_REPLICA) as reading:
        await reading.fetch_one("SELECT 1")
    await sql.scalars(select(NOTE.c.v))


async def wrong(client: ClientSession, sql: SqlReading, asked: str) -> None:
    async with client.read(ANY_REPLICA) as reading:
        await rename(reading)  # wrong 1
        await reading.execute("UPDATE note SET v = 1")  # wrong 2
        await reading.fetch_one("SELECT " + asked)  # wrong 3
    await sql.scalars(insert(NOTE))  # wrong 4
    await sql.rows(update(NOTE))  # wrong 5
    await sql.rows(text("UPDATE note SET v = 1"))  # wrong 6


def handed_on(reading: Reading) -> Writing:
    return reading  # wrong 7
"""


@pytest.mark.timeout(240)
def test_only_the_wrong_lines_are_type_errors(tmp_path: Path) -> None:
    """Each of them, and no other line."""
    planted = tmp_path / "planted.py"
    planted.write_text(SOURCE, encoding="utf-8")
    config = tmp_path / "pyrightconfig.json"
    config.write_text(
        json.dumps(
            {
                "include": ["planted.py"],
                "extraPaths": [str(ROOT)],
                "typeCheckingMode": "standard",
                "pythonVersion": "3.11",
            }
        )
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "basedpyright",
            "--outputjson",
            "--pythonpath",
            sys.executable,
            "-p",
            str(config),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=200,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = SOURCE.splitlines()
    named = {
        lines[one["range"]["start"]["line"]].strip() for one in found if one["severity"] == "error"
    }
    wrong = {line.strip() for line in lines if "# wrong" in line}
    assert named == wrong, done.stdout
