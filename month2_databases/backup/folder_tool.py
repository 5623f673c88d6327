"""Our own backup: `pg_basebackup` and the server's log, sealed into a folder.

A base backup goes from the server through the cipher to the disk; the plain bytes stand nowhere.
The log comes in two ways, which may be used together:

    incoming/   the server's `archive_command` puts each full segment there
    stream/     `pg_receivewal --synchronous` writes each record there before a commit returns

`restore` reads both. A segment that only began to be streamed has the name `.partial`; recovery
takes it as it is and stops at its last whole record.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import psycopg

from month2_databases.backup.log_shipping import require_archiving
from month2_databases.backup.recovery_target import (
    BackupRecord,
    Target,
    choose,
    recovery_settings,
)
from month2_databases.backup.repository import Repository, is_full, write_plain
from month2_databases.backup.retention import Pruned, split, unneeded
from month2_databases.backup.sealed_stream import PieceReader, Source
from month2_databases.backup.tool import Owner, Prepared, hand_over, seal_off
from month2_databases.backup.wal_segments import (
    SEGMENT_BYTES,
    gaps,
    is_segment,
    lsn_of,
    number_of,
    segment_at,
    segment_name,
    timeline_of,
)
from scalelab.errors import Conflict, CorruptData, Unavailable

_HISTORY = re.compile(
    r"START WAL LOCATION: (\S+) .*STOP WAL LOCATION: (\S+) .*LABEL: (\S+).*START TIMELINE: (\d+)",
    re.DOTALL,
)
_SYSTEM_SQL = "SELECT system_identifier::text, clock_timestamp() FROM pg_control_system()"


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """root: the repository. dsn: of the server's superuser. programs: PostgreSQL's own folder.

    owner: the account of the server, where it is another one. backup_timeout_s: of one backup.
    """

    root: Path
    dsn: str
    programs: Path
    owner: Owner | None = None
    backup_timeout_s: float = 600.0


class FolderTool:
    """A `BackupTool` on a folder. key: 32 bytes."""

    def __init__(self, settings: FolderSettings, key: bytes) -> None:
        self._settings = settings
        self.repository = Repository(settings.root, key)
        self.incoming, self.stream = _open_to_server(settings.root, settings.owner)

    def archive_settings(self) -> dict[str, str]:
        """What the server must be told so that its log reaches this repository."""
        return archive_into(self._settings.root, self._settings.owner)

    def backup(self) -> BackupRecord:
        """Take a full backup. Raises Unavailable: `wal_archive_failing`, `backup_disk_full`, or
        `backup_failed` with the program's words; the backups before it stay as they are."""
        with psycopg.connect(self._settings.dsn, autocommit=True) as connection:
            require_archiving(connection)
            system, started_at = _system(connection)
        self.repository.remove_leftovers()
        try:
            return self._take(system, started_at)
        except BaseException:
            self.repository.remove_leftovers()  # the room it took is wanted for the next attempt
            raise

    def _take(self, system: str, started_at: datetime) -> BackupRecord:
        self.collect()
        backup_id = f"{started_at:%Y%m%dT%H%M%S.%fZ}"
        counted = self._stream_base(f"backups/{backup_id}/base.tar", backup_id)
        self.collect()
        start_lsn, stop_lsn, timeline = self._history_of(backup_id)
        with psycopg.connect(self._settings.dsn, autocommit=True) as connection:
            _, stopped_at = _system(connection)
        record = BackupRecord(
            id=backup_id,
            system=system,
            timeline=timeline,
            start_lsn=start_lsn,
            stop_lsn=stop_lsn,
            started_at=started_at,
            stopped_at=stopped_at,
            bytes=counted.bytes,
            sha256=counted.digest(),
        )
        text = json.dumps(asdict(record), default=_iso).encode()
        self.repository.put(f"backups/{backup_id}/record.json", PieceReader([text]))
        return record

    def backups(self) -> list[BackupRecord]:
        """All whole backups, the oldest first. Raises CorruptData if a record does not open."""
        return [self._record(one) for one in self.repository.backup_ids()]

    def prune(self, keep: int) -> Pruned:
        """Remove all but the `keep` newest backups, and the log that none of those needs.

        A time before the oldest backup that is kept cannot be restored any more. Killed at any
        point it leaves whole backups and their log, and may be called again. A restore of a backup
        that goes meanwhile ends with NotFound `backup_file_missing`.
        """
        kept, gone = split(self.backups(), keep)
        bytes_gone = sum(self.repository.remove_backup(one) for one in gone)
        log = unneeded(self.repository.log_files(), kept)
        bytes_gone += sum(self.repository.remove_log_file(name) for name in log)
        return Pruned(tuple(gone), len(log), bytes_gone)

    def collect(self) -> int:
        """Seal what the server handed over and what was streamed in full; how many files."""
        return sum(self.repository.collect(one) for one in (self.incoming, self.stream))

    def restore(self, target: Target, into: Path) -> Prepared:
        """Check, then fill `into` and `<into>-wal`. Raises InvalidInput about the target,
        CorruptData `backup_corrupt` or `wal_segment_missing`, Unavailable `restore_disk_full`;
        then nothing is left behind."""
        staged = into.with_name(f"{into.name}-wal")
        for folder in (into, staged):
            if folder.exists():
                raise Conflict(f"{folder} exists; a restore overwrites nothing", code="not_empty")
        self.collect()
        backup = choose(self.backups(), target, now=self._now())
        needed = self._log_of(backup)
        try:
            into.mkdir(parents=True, mode=0o700)
            staged.mkdir(mode=0o700)
            self._unpack(backup, into)
            for name in needed:
                write_plain(staged / name, self.repository.pieces(f"wal/{name}"))
            for tail in self._streamed_after(needed[-1]):
                write_plain(staged / tail.stem, [_padded(tail)])
            settings = recovery_settings(target) | {"restore_command": f'cp "{staged}/%f" "%p"'}
            seal_off(into, settings)
        except BaseException as error:
            _remove(into, staged)
            if is_full(error):
                raise Unavailable(
                    f"the disk of {into} is full; the {backup.bytes} bytes of backup {backup.id} "
                    "and its log do not fit. Nothing was restored. Try: a folder on another disk.",
                    code="restore_disk_full",
                ) from error
            raise
        for folder in (into, staged):
            hand_over(folder, self._settings.owner)
        reached = backup.stop_lsn
        if target == Target():  # the end of the log: all that was archived in full
            reached = max(reached, number_of(needed[-1]) * SEGMENT_BYTES)
        return Prepared(into, backup, target, settings, reached, staged)

    def verify(self) -> int:
        """Open every file, compare every backup with its record, and look for gaps in the log."""
        self.collect()
        checked = 0
        for backup in self.backups():
            digest = hashlib.sha256()
            for piece in self.repository.pieces(f"backups/{backup.id}/base.tar"):
                digest.update(piece)
            if digest.hexdigest() != backup.sha256:
                raise CorruptData(
                    f"backup {backup.id} is not what was taken", code="backup_corrupt"
                )
            self._log_of(backup)
            checked += 2
        for name in self.repository.segments():
            for _ in self.repository.pieces(f"wal/{name}"):
                pass
            checked += 1
        return checked

    def _stream_base(self, name: str, label: str) -> _Counted:
        settings = self._settings
        command = [str(settings.programs / "pg_basebackup"), "-d", settings.dsn, "-D", "-"]
        command += ["-Ft", "-X", "none", "-c", "fast", "-l", label, "--no-password"]
        with tempfile.TemporaryFile() as words:
            process = subprocess.Popen(
                ["timeout", str(settings.backup_timeout_s), *command],
                stdout=subprocess.PIPE,
                stderr=words,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            )
            assert process.stdout is not None
            with process, process.stdout as pipe:
                counted = _Counted(pipe)
                try:
                    self.repository.put(name, counted)
                except BaseException:
                    process.terminate()
                    raise
            words.seek(0)
            said = words.read().decode(errors="replace").strip().splitlines()
        if process.returncode != 0:
            last = said[-1] if said else "it said nothing"
            raise Unavailable(
                f"pg_basebackup ended with {process.returncode}: {last}", code="backup_failed"
            )
        return counted

    def _history_of(self, label: str) -> tuple[int, int, int]:
        """Start, end and timeline of a backup, from the note that the server archives with it."""
        notes = self.repository.root.glob("wal/*.backup")
        for path in sorted(notes, reverse=True):
            match = _HISTORY.search(self.repository.read(f"wal/{path.name}").decode())
            if match is not None and match[3] == label:
                return lsn_of(match[1]), lsn_of(match[2]), int(match[4])
        raise Unavailable(
            f"the server archived no note of backup {label}: is its archive another one?",
            code="backup_failed",
        )

    def _record(self, backup_id: str) -> BackupRecord:
        fields: dict[str, Any] = json.loads(
            self.repository.read(f"backups/{backup_id}/record.json")
        )
        for name in ("started_at", "stopped_at"):
            fields[name] = datetime.fromisoformat(fields[name])
        return BackupRecord(**fields)

    def _log_of(self, backup: BackupRecord) -> list[str]:
        """The segments a restore of `backup` needs. Raises CorruptData if one is missing."""
        first = segment_at(backup.timeline, backup.start_lsn)
        least = segment_at(backup.timeline, backup.stop_lsn - 1)
        present = self.repository.segments()
        missing = gaps(present, first, at_least=least)
        if missing:
            raise CorruptData(
                f"log segment {missing[0]} is missing ({len(missing)} in all), and backup "
                f"{backup.id} cannot be carried past it. Nothing was restored. Try: the copy of "
                "the archive, or a time before it from an older backup.",
                code="wal_segment_missing",
            )
        return [
            name for name in present if is_segment(name) and name[:8] == first[:8] and name >= first
        ]

    def _streamed_after(self, last: str) -> list[Path]:
        """The segment that was being streamed when its server was lost, if it follows `last`."""
        following = segment_name(timeline_of(last), number_of(last) + 1)
        return [path for path in self.stream.glob("*.partial") if path.stem == following]

    def _unpack(self, backup: BackupRecord, into: Path) -> None:
        reader = self.repository.reader(f"backups/{backup.id}/base.tar")
        # It only reads, although its type asks for a file that can seek as well.
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|") as tar:
            tar.extractall(into, filter="data")
        while reader.read(1 << 20):  # the end of the sealed stream proves that it is whole
            pass
        for path in (into, *into.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)

    def _now(self) -> datetime:
        """The server's clock if it answers, else ours: it may be what was lost."""
        try:
            with psycopg.connect(self._settings.dsn, connect_timeout=2) as connection:
                return _system(connection)[1]
        except psycopg.OperationalError:
            return datetime.now().astimezone()


def archive_into(root: Path, owner: Owner | None = None) -> dict[str, str]:
    """Make a repository's folders for a server that has yet to start; returns its settings.

    Copied aside, synced, renamed; a segment that is there already must be the same.
    """
    incoming, _ = _open_to_server(root, owner)
    there, aside = f'"{incoming}/%f"', f'"{incoming}/.%f"'
    command = (
        f'if [ -e {there} ]; then cmp -s "%p" {there}; '
        f'else cp "%p" {aside} && sync {aside} && mv {aside} {there}; fi'
    )
    return {"archive_mode": "on", "archive_command": command}


def _open_to_server(root: Path, owner: Owner | None) -> tuple[Path, Path]:
    """The folders that the server's account writes to: handed over, and streamed."""
    folders = (root / "incoming", root / "stream")
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in folders:
        folder.mkdir(exist_ok=True, mode=0o700)
        hand_over(folder, owner)
    if owner is not None:
        root.chmod(0o711)  # the server's account passes through, it does not list
    return folders


class _Counted:
    """A source that counts and hashes what it gives."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.bytes = 0

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self._hash.update(piece)
        self.bytes += len(piece)
        return piece

    def digest(self) -> str:
        return self._hash.hexdigest()


def _system(connection: psycopg.Connection[Any]) -> tuple[str, datetime]:
    row = connection.execute(_SYSTEM_SQL).fetchone()
    assert row is not None
    return str(row[0]), row[1]


def _iso(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _padded(tail: Path) -> bytes:
    return tail.read_bytes().ljust(SEGMENT_BYTES, b"\0")


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
