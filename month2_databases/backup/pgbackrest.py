"""pgBackRest as a `BackupTool`: its own repository, its own cipher, its own checks.

The program runs as the account of the server, because it reads the data folder itself. Its
passphrase stands in its configuration, a file of mode 0600 of that account.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from month2_databases.backup.log_shipping import require_archiving
from month2_databases.backup.recovery_target import BackupRecord, Target, choose
from month2_databases.backup.tool import Owner, Prepared, hand_over, seal_off
from month2_databases.backup.wal_segments import lsn_of
from scalelab.errors import Conflict, CorruptData, Unavailable

_STANZA = "main"
# Its exit codes: 25 to 99 are errors of its own; these mean that stored bytes are not right.
_DAMAGE = frozenset({26, 29, 30, 42, 58, 95})


@dataclass(frozen=True, slots=True)
class PgBackRestSettings:
    """root: configuration and repository. program: pgbackrest. data: the server's data folder.

    port, password: of the superuser `postgres` on 127.0.0.1. owner: the account of the server.
    """

    root: Path
    program: Path
    data: Path
    port: int
    password: str
    passphrase: str
    owner: Owner | None = None
    timeout_s: float = 600.0


class PgBackRest:
    """A `BackupTool` on the real pgBackRest. Writes its configuration when it is made."""

    def __init__(self, settings: PgBackRestSettings) -> None:
        self._settings = settings
        self.repository = settings.root / "repository"
        self._config = settings.root / "pgbackrest.conf"
        self._passfile = settings.root / "pgpass"
        for folder in ("repository", "log", "lock", "spool"):
            (settings.root / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write(self._config, self._configuration())
        self._write(self._passfile, f"*:*:*:postgres:{settings.password}\n")
        hand_over(settings.root, settings.owner)

    def archive_settings(self) -> dict[str, str]:
        """Its own command takes each segment, compressed and enciphered."""
        command = f'"{self._settings.program}" --config="{self._config}" --stanza={_STANZA}'
        return {"archive_mode": "on", "archive_command": f'{command} archive-push "%p"'}

    def create_stanza(self) -> None:
        """Introduce the server to the repository; once, repeatable, before anything is archived."""
        self._run("stanza-create")

    def backup(self) -> BackupRecord:
        """Take a full backup. Raises Unavailable with the program's words."""
        with psycopg.connect(self._dsn(), autocommit=True) as connection:
            require_archiving(connection)
        self._run("backup", "--type=full", "--start-fast")
        return self.backups()[-1]

    def backups(self) -> list[BackupRecord]:
        """All whole backups, the oldest first."""
        stanzas: list[dict[str, Any]] = json.loads(self._run("info", "--output=json"))
        found = [one for stanza in stanzas for one in stanza.get("backup", ())]
        systems = {
            database["id"]: str(database["system-id"])
            for stanza in stanzas
            for database in stanza.get("db", ())
        }
        return [_record(one, systems) for one in found if not one.get("error")]

    def restore(self, target: Target, into: Path) -> Prepared:
        """Fill `into`; the program checks each file's sum and refuses a damaged one."""
        if into.exists():
            raise Conflict(f"{into} exists; a restore overwrites nothing", code="not_empty")
        backup = choose(self.backups(), target, now=datetime.now(UTC))
        into.mkdir(parents=True, mode=0o700)
        hand_over(into, self._settings.owner)
        try:
            self._run("restore", f"--pg1-path={into}", f"--set={backup.id}", *_options(target))
        except BaseException:
            shutil.rmtree(into, ignore_errors=True)
            raise
        seal_off(into, {})
        hand_over(into, self._settings.owner)
        return Prepared(into, backup, target, {}, backup.stop_lsn)

    def verify(self) -> int:
        """Have every file of the repository read and checked; the number of backups and segments.

        Raises CorruptData with the first line that tells of damage.
        """
        said = self._run("verify", "--log-level-console=info")
        for line in said.splitlines():
            if "invalid" in line or "ERROR" in line or "WARN" in line:
                words = line.split(":", 1)[-1].strip()
                if "0 invalid" not in line:
                    raise CorruptData(f"pgBackRest says: {words}", code="backup_corrupt")
        return len(self.backups())

    def _configuration(self) -> str:
        settings = self._settings
        lines = {
            "repo1-path": self.repository,
            "repo1-cipher-type": "aes-256-cbc",
            "repo1-cipher-pass": settings.passphrase,
            "repo1-retention-full": 4,
            "log-path": settings.root / "log",
            "lock-path": settings.root / "lock",
            "spool-path": settings.root / "spool",
            "log-level-console": "warn",
            "log-level-file": "off",
            "archive-timeout": 60,
            "compress-type": "gz",
            "compress-level": 1,
        }
        stanza = {"pg1-path": settings.data, "pg1-port": settings.port, "pg1-user": "postgres"}
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        return f"[global]\n{text}[{_STANZA}]\n" + "".join(
            f"{name}={value}\n" for name, value in stanza.items()
        )

    def _run(self, command: str, *options: str) -> str:
        settings = self._settings
        argv: Sequence[str] = [
            str(settings.program),
            f"--config={self._config}",
            f"--stanza={_STANZA}",
            *options,
            command,
        ]
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PGHOST": "127.0.0.1",
            "PGPASSFILE": str(self._passfile),
            "LC_ALL": "C.UTF-8",
        }
        owner = settings.owner
        try:
            done = subprocess.run(
                argv,
                env=env,
                cwd=settings.root,
                capture_output=True,
                text=True,
                timeout=settings.timeout_s,
                check=False,
                user=owner.uid if owner else None,
                group=owner.gid if owner else None,
                extra_groups=[] if owner else None,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(
                f"pgbackrest {command} did not end in {settings.timeout_s:.0f} s",
                code="backup_failed",
            ) from error
        if done.returncode == 0:
            return done.stdout
        words = " ".join((done.stdout + done.stderr).split())[:500]
        message = f"pgbackrest {command} ended with {done.returncode}: {words}"
        if "No space left" in words:
            raise Unavailable(message, code="backup_disk_full")
        if done.returncode in _DAMAGE or "checksum" in words or "decrypt" in words:
            raise CorruptData(message, code="backup_corrupt")
        raise Unavailable(message, code="backup_failed")

    def _dsn(self) -> str:
        settings = self._settings
        return make_conninfo(
            host="127.0.0.1",
            port=settings.port,
            user="postgres",
            password=settings.password,
            dbname="postgres",
        )

    def _write(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)


def _options(target: Target) -> list[str]:
    options = ["--archive-mode=off"]
    if target.time is not None:
        options += ["--type=time", f"--target={target.time.isoformat(sep=' ')}"]
    elif target.name is not None:
        options += ["--type=name", f"--target={target.name}"]
    else:
        return options
    return [*options, "--target-action=promote", "--target-timeline=current"]


def _record(one: dict[str, Any], systems: dict[int, str]) -> BackupRecord:
    lsn, when, info = one["lsn"], one["timestamp"], one["info"]
    return BackupRecord(
        id=str(one["label"]),
        system=systems.get(one["database"]["id"], ""),
        timeline=int(str(one["archive"]["start"])[:8], 16),
        start_lsn=lsn_of(lsn["start"]),
        stop_lsn=lsn_of(lsn["stop"]),
        started_at=datetime.fromtimestamp(when["start"], UTC),
        # Whole seconds, cut off: a target within that second may lie before the end after all.
        # PostgreSQL refuses to open a copy there.
        stopped_at=datetime.fromtimestamp(when["stop"], UTC),
        bytes=int(info["size"]),
        sha256="",
    )
