"""The recovery drill: what a restore loses and how long it takes, with both tools.

The drill fills a table, takes a backup, goes on writing, drops the table, and restores it elsewhere
to just before. Rows lost is a limit (0); seconds are printed and are no gate: they are this disk's.
"""

from __future__ import annotations

import os

from month2_databases.backup import DrillReport, drill
from month2_databases.experiments.recovering import ToolName, start_recovering
from scalelab.lab.course.bench import AnyFigure, LimitFigure, Options
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import ProviderOptions, Providers

MONTH = "month2"
_ROWS = 20_000
_ROWS_OF_1_GB = 3_000_000
"""A row takes about 330 bytes with its index entry."""


def run(options: Options) -> list[AnyFigure]:
    """All figures; about a minute. SCALELAB_DRILL_FULL=1 drills 1 GB."""
    rows = _ROWS_OF_1_GB if os.environ.get("SCALELAB_DRILL_FULL") == "1" else _ROWS
    providers = Providers(ProviderOptions.from_environment(os.environ))
    figures: list[AnyFigure] = []
    for tool in ("folder", "pgbackrest"):
        options.note(f"a drill with {tool}, {rows} rows")
        figures += _figures(tool, _drilled(options.runtime, tool, providers, rows))
    return figures


def _drilled(runtime: Runtime, tool: ToolName, providers: Providers, rows: int) -> DrillReport:
    started = start_recovering(runtime, f"drill-{tool}", tool, providers)
    dsn = started.primary.superuser_dsn()
    report = drill(started.tool, dsn, started.into(), started.start_copy, rows=rows)
    if not report.matches:
        raise RuntimeError(f"the copy of {tool} is not the table that was dropped")
    return report


def _figures(tool: str, report: DrillReport) -> list[AnyFigure]:
    shown = [
        (f"{tool}: backup", "MB", report.backup_bytes / 1e6),
        (f"{tool}: RPO, last commit recovered", "s before the drop", report.rpo_s),
        (f"{tool}: RTO", "s", report.rto_s),
    ]
    lost = LimitFigure(
        "recovery", f"{tool}: acknowledged rows lost", "rows", report.lost_rows, "at_most", 0
    )
    return [
        lost,
        *(
            LimitFigure("recovery", subject, unit, round(value, 3), "at_most", None)
            for subject, unit, value in shown
        ),
    ]
