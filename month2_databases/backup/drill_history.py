"""The drills that were run, one JSON document a line: appended and synced, never rewritten."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from month2_databases.backup.drill import DrillReport
from scalelab.errors import CorruptData


def append(path: Path, report: DrillReport) -> None:
    """Add one line; it is on the disk when the call returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = asdict(report) | {"at": report.at.isoformat()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(document) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[DrillReport]:
    """All drills, the oldest first; a last line cut short by a crash is left out.

    Raises CorruptData for any other line that is not one of ours.
    """
    if not path.exists():
        return []
    found: list[DrillReport] = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            document: dict[str, Any] = json.loads(line)
            known: dict[str, Any] = {one.name: document[one.name] for one in fields(DrillReport)}
            known["at"] = datetime.fromisoformat(known["at"])
            found.append(DrillReport(**known))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise CorruptData(
                f"line {number} of {path} is no drill", code="history_corrupt"
            ) from error
    return found
