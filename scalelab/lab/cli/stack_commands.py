"""`up`, `down`, `status`, `logs`: the stack of a month, started once, watched from anywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scalelab.lab.cli.outcome import (
    CommandFailed,
    Exit,
    emit_json,
    human_bytes,
    note,
    say,
    show_table,
)
from scalelab.lab.cli.place import root_of

if TYPE_CHECKING:
    from scalelab.lab.course.months import Month
    from scalelab.lab.supervisor.state import StackPaths, StackState

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def up(
    context: typer.Context,
    month: Annotated[str, typer.Argument(help="Which month: month1 … month6.")],
    as_json: JsonFlag = False,
) -> None:
    """Start the stack of a month in the background, or attach to it, and print its links.

    Real servers on this machine, in .lab/stacks/MONTH; nothing outside this folder is touched.

    Examples:  ./lab up month6   ·   ./lab up month6 --json
    """
    from scalelab.lab.course.months import find_month, find_months
    from scalelab.lab.supervisor.control import bring_up, is_running
    from scalelab.lab.supervisor.state import StackPaths

    root = root_of(context)
    found = find_month(root, month)
    if not _has_stack(found):
        others = ", ".join(other.name for other in find_months(root) if _has_stack(other))
        raise CommandFailed(
            f"{found.name} has no stack of its own yet; those that have one: {others or 'none'}.",
            Exit.USAGE,
        )
    paths = StackPaths(root, found.name)
    was_running = is_running(paths)
    if not was_running:
        note(
            f"starting {found.name} in .lab/stacks/{found.name}: takes about half a minute, "
            "longer when a server must be fetched first …"
        )
    state, attached = bring_up(paths, watch=_Progress(was_running=was_running))
    if attached:
        note(f"{found.name} was running already; this is the same stack.")
    if as_json:
        emit_json(_document(state))
        return
    _show_links(state)
    if (found.folder / "README.md").is_file():
        say(f"What to do with it: {found.package}/README.md")
    say(f"Watch it: ./lab status, ./lab logs · stop it: ./lab down {found.name}")


def down(
    context: typer.Context,
    month: Annotated[str | None, typer.Argument(help="Which month; all of them if absent.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Stop a running stack, or all of them; their data stay (see ./lab clean).

    Examples:  ./lab down   ·   ./lab down month6
    """
    from scalelab.lab.supervisor.control import take_down

    stopped: list[str] = []
    for paths in _chosen(root_of(context), month):
        note(f"stopping {paths.month} …")
        if take_down(paths, grace_s=60.0):
            stopped.append(paths.month)
    if as_json:
        emit_json({"stopped": stopped})
    else:
        say(f"Stopped: {', '.join(stopped)}." if stopped else "No stack was running.")
        _point_to_open_runs(root_of(context))


def status(
    context: typer.Context,
    month: Annotated[str | None, typer.Argument(help="Which month; all of them if absent.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show every process of the running stacks: pid, port, version, memory, state.

    Exit code 1 if a month is named and not ready, or if a process of a stack is not running.

    Examples:  ./lab status   ·   ./lab status month6 --json
    """
    from scalelab.lab.supervisor.control import is_running
    from scalelab.lab.supervisor.state import read

    states: list[StackState] = []
    for paths in _chosen(root_of(context), month):
        state = read(paths.state) if is_running(paths) else None
        if state is not None:
            states.append(state)
    if as_json:
        emit_json({"stacks": [_document(state) for state in states]})
    elif not states:
        say(f"{month} is not running." if month else "No stack is running.")
        _point_to_open_runs(root_of(context))
    else:
        for state in states:
            _show_processes(state)
    if (month and not states) or any(not _healthy(state) for state in states):
        raise typer.Exit(Exit.FAILED)


def logs(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A process of a stack, as in ./lab status; or supervisor.")
    ] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many last lines.")] = 50,
    keep_going: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
    month: Annotated[str | None, typer.Option(help="Which month's, if several have it.")] = None,
) -> None:
    """Print the log of one process, also after it has ended; without a name, list the names.

    Of stacks, and of the last demo. Where several have the name, the one that wrote last is shown.

    Examples:  ./lab logs   ·   ./lab logs kafka -n 200   ·   ./lab logs orders -f
    """
    from scalelab.lab.supervisor.control import follow

    places = _log_places(root_of(context), month)
    if name is None:
        _list_logs(places)
        return
    found = [path for (_, known), path in places.items() if known == name and path.exists()]
    if not found:
        names = ", ".join(sorted({known for _, known in places})) or "none yet"
        raise CommandFailed(f"There is no log of {name!r}; there are: {names}.")
    # The stack that wrote last is the one a person has in mind.
    path = max(found, key=lambda candidate: candidate.stat().st_mtime)
    for line in follow(path, lines=lines, keep_going=keep_going):
        sys.stdout.write(line)
        sys.stdout.flush()


def _has_stack(month: Month) -> bool:
    return (month.folder / "stack.py").is_file()


def _point_to_open_runs(root: Path) -> None:
    """A demo is no stack: say that it is there, and who ends it."""
    from scalelab.lab.cli.runs import holder_of, open_runs

    for run in open_runs(root):
        note(
            f"{run.relative_to(root)} is open (process {holder_of(run)}); Ctrl-C in its own "
            "terminal ends it. ./lab logs and ./lab verify work on it."
        )


class _Progress:
    """Tells on stderr what changed since the last look: one line per process and state.

    A stack that ran already and is ready at the first look has nothing to tell.
    """

    def __init__(self, *, was_running: bool) -> None:
        self._was_running = was_running
        self._told: dict[str, str] = {}

    def __call__(self, state: StackState) -> None:
        if self._was_running and state.phase == "ready" and not self._told:
            return
        for process in state.processes:
            if self._told.get(process.name) != process.state and process.state != "new":
                self._told[process.name] = process.state
                where = f" on 127.0.0.1:{process.port}" if process.port else ""
                note(f"  {process.name}: {process.state}{where}")


def _chosen(root: Path, month: str | None) -> list[StackPaths]:
    from scalelab.lab.course.months import find_month
    from scalelab.lab.supervisor.control import running_stacks
    from scalelab.lab.supervisor.state import StackPaths

    if month is None:
        return running_stacks(root)
    return [StackPaths(root, find_month(root, month).name)]


def _log_places(root: Path, month: str | None) -> dict[tuple[str, str], Path]:
    """(stack, process name) → log file, of every stack that ever ran here and the last run."""
    from scalelab.lab.cli.runs import runs
    from scalelab.lab.supervisor.state import StackPaths, read

    places: dict[tuple[str, str], Path] = {}
    folder = root / ".lab" / "stacks"
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if month not in (None, entry.name):
            continue
        paths = StackPaths(root, entry.name)
        places[entry.name, "supervisor"] = paths.log
        state = read(paths.state)
        for process in state.processes if state else ():
            places[entry.name, process.name] = Path(process.log)
    with_logs = [] if month else [run for run in runs(root) if (run / "logs").is_dir()]
    for run in with_logs[:1]:
        for path in sorted((run / "logs").glob("*.log")):
            places[run.name, path.stem] = path
    return places


def _list_logs(places: dict[tuple[str, str], Path]) -> None:
    if not places:
        note("There is no log yet: nothing has run here.")
        return
    rows = [(stack, name, path) for (stack, name), path in places.items()]
    show_table(["stack or run", "name", "log"], rows)


def _healthy(state: StackState) -> bool:
    return state.phase == "ready" and all(process.state == "running" for process in state.processes)


def _document(state: StackState) -> dict[str, Any]:
    return {
        "month": state.month,
        "phase": state.phase,
        "message": state.message,
        "supervisor_pid": state.pid,
        "links": [{"label": label, "url": url} for label, url in state.links],
        "processes": [
            {
                "name": process.name,
                "pid": process.pid,
                "port": process.port,
                "version": process.version,
                "rss_bytes": process.rss_bytes,
                "pss_bytes": process.pss_bytes,
                "state": process.state,
                "log": process.log,
            }
            for process in state.processes
        ],
    }


def _show_links(state: StackState) -> None:
    say(f"{state.month} is ready.")
    width = max((len(label) for label, _ in state.links), default=0)
    for label, url in state.links:
        say(f"  {label:<{width}}  {url}")


def _show_processes(state: StackState) -> None:
    rows = [
        (
            process.name,
            process.pid or "–",
            process.port or "–",
            process.version or "–",
            human_bytes(process.pss_bytes if process.pss_bytes is not None else process.rss_bytes),
            process.state,
        )
        for process in state.processes
    ]
    show_table(
        ["process", "pid", "port", "version", "memory", "state"],
        rows,
        title=f"{state.month}: {state.phase} (supervisor {state.pid})",
    )
    total = sum(process.pss_bytes or process.rss_bytes or 0 for process in state.processes)
    say(f"{len(state.processes)} processes, {human_bytes(total)} of memory")
    for label, url in state.links:
        say(f"  {label}: {url}")
