"""`clean`: name what was made, with sizes; remove it when told to; never under a running stack."""

from __future__ import annotations

import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from scalelab.lab.cli.outcome import CommandFailed, emit_json, human_bytes, note, say, show_table
from scalelab.lab.cli.place import root_of
from scalelab.lab.cli.runs import open_runs

_WHAT = {
    "runs": "private servers of tests and demos",
    "stacks": "data, logs and secrets of ./lab up",
    "experiments": "results and plots of experiments",
    "bench": "results of benches",
    "cache": "downloads and builds",
    "containers": "images and logs of the container bed",
    "servers-venv": "servers from Python wheels",
    "home": "home folder for installers",
    "install.log": "what the installation of .venv said",
    "install.lock": "lets one installation run at a time",
}
_TOOL_CACHES = (".pytest_cache", ".ruff_cache", ".hypothesis", ".import_linter_cache")


@dataclass(frozen=True, slots=True)
class Removable:
    """One folder or file that can be made again. size: bytes on disk."""

    path: Path
    what: str
    size: int


def removables(root: Path, *, everything: bool) -> list[Removable]:
    """What `clean` would remove: all of .lab; with `everything` also .venv and tool caches."""
    lab = root / ".lab"
    paths = sorted(lab.iterdir()) if lab.is_dir() and not lab.is_symlink() else []
    paths += _elsewhere(lab)
    if everything:
        paths += [root / name for name in (*_TOOL_CACHES, ".venv")]
    return [
        Removable(path, _WHAT.get(path.name, _describe(path)), disk_size(path))
        for path in paths
        if path.exists() or path.is_symlink()
    ]


def _elsewhere(lab: Path) -> list[Path]:
    """Data that had to stand outside because the servers' account cannot reach this folder."""
    from scalelab.lab.servers.account import stand_in

    # A stand-in is named for the path inside .lab that it replaces, which then does not exist.
    # A bench keeps several stacks in its run, one folder deeper.
    inside = [
        folder / "data"
        for pattern in ("stacks/*", "runs/*", "runs/*/*")
        for folder in lab.glob(pattern)
    ]
    inside.append(lab / "cache")
    return sorted({aside for path in inside if (aside := stand_in(path)).is_dir()})


def disk_size(path: Path) -> int:
    """Bytes that the path occupies; links are not followed, what vanishes meanwhile is skipped."""
    total = 0
    waiting = [path]
    while waiting:
        entry = waiting.pop()
        try:
            status = entry.lstat()
            total += status.st_blocks * 512
            if stat.S_ISDIR(status.st_mode):
                waiting.extend(entry.iterdir())
        except OSError:
            continue
    return total


def clean(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also .venv and the caches of tools.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document; needs --yes.")
    ] = False,
) -> None:
    """List what the lab made in this folder, with sizes, and remove it.

    Refuses while a stack or a test uses it. The next ./lab makes again what it needs.

    Examples:  ./lab clean   ·   ./lab clean --all --yes
    """
    root = root_of(context)
    _refuse_in_use(root)
    found = removables(root, everything=everything)
    if not as_json:
        rows = [(_shown(root, item.path), human_bytes(item.size), item.what) for item in found]
        show_table(["would remove", "size", "what"], rows)
        say(f"in all {human_bytes(sum(item.size for item in found))}")
    if not found:
        _report(as_json, root, found)
        return
    if not yes:
        if as_json:
            raise CommandFailed("--json cannot ask; add --yes.")
        if not sys.stdin.isatty():
            raise CommandFailed("Nobody is here to ask, so nothing was removed; add --yes.")
        typer.confirm("Remove all of this?", abort=True, err=True)
    for item in found:
        _remove(item.path)
    _report(as_json, root, found)


def _refuse_in_use(root: Path) -> None:
    from scalelab.lab.supervisor import identity
    from scalelab.lab.supervisor.control import running_stacks

    running = [paths.month for paths in running_stacks(root)]
    if running:
        raise CommandFailed(f"A stack is running: {', '.join(running)}. Stop it first: ./lab down")
    opened = [_shown(root, run) for run in open_runs(root)]
    if opened:
        raise CommandFailed(
            f"Servers run in {', '.join(opened)}; Ctrl-C in their own terminal ends them."
        )
    users = identity.users_of([root / ".lab", *_elsewhere(root / ".lab")])
    if users:
        named = ", ".join(f"{name} ({pid})" for pid, name in users[:5])
        raise CommandFailed(f"Processes still use .lab: {named}. Wait for them, or stop them.")


def _remove(path: Path) -> None:
    """Remove one path; a link is removed, never what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _report(as_json: bool, root: Path, found: list[Removable]) -> None:
    if as_json:
        removed = [{"path": _shown(root, item.path), "bytes": item.size} for item in found]
        emit_json({"removed": removed, "bytes": sum(item.size for item in found)})
    elif found:
        say("Removed.")
    else:
        note("There is nothing to remove.")


def _shown(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _describe(path: Path) -> str:
    if path.name == ".venv":
        return "Python packages; the next ./lab installs them again"
    if path.parent.name == "tmp":
        return "data of servers that cannot reach this folder"
    return "cache of a tool" if path.name in _TOOL_CACHES else "made by the lab"
