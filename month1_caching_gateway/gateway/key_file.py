"""The file that holds the API keys' digests: read with suspicion, read again when it has changed.

The document is JSON: `{"keys": [{"id", "sha256", "owner", "plan"?, "scopes"?, "expires_at"?}]}`.
It holds no secret, but whoever may write it may let himself in, and whoever may read it learns who
the callers are: so it must be ours, and nobody else's to read or write. A file that cannot be read
or breaks the schema changes nothing: the keys in hand stay good.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from month1_caching_gateway.gateway.api_keys import ApiKey, KeyRing
from scalelab.errors import InvalidInput

MAX_BYTES = 8 * 1024 * 1024

_Version = tuple[int, int, int]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    owner: Annotated[str, Field(min_length=1, max_length=200)]
    plan: str | None = None
    scopes: list[str] = []
    expires_at: datetime | None = None

    def key(self) -> ApiKey:
        expires_at = self.expires_at
        if expires_at is not None and expires_at.tzinfo is None:
            expires_at = expires_at.replace(tzinfo=UTC)
        return ApiKey(
            self.id,
            bytes.fromhex(self.sha256),
            self.owner,
            self.plan,
            frozenset(self.scopes),
            expires_at,
        )


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[_Entry]


class KeyFile:
    """Keys from `path`. Raises InvalidInput if the file is missing, open to others, or wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version, self.ring = _load(path)

    def reload(self) -> KeyRing:
        """Read the file again. Raises InvalidInput; then the keys in hand stay."""
        self._version, self.ring = _load(self._path)
        return self.ring

    def changed(self) -> tuple[int, int, int] | None:
        """What tells the file from the one last read, if it changed; a lost file did not."""
        try:
            version = _version(self._path.stat())
        except OSError:
            return None
        return None if version == self._version else version


def _load(path: Path) -> tuple[_Version, KeyRing]:
    try:
        with path.open("rb") as file:
            # What was opened is what is judged: the name may point elsewhere a moment later.
            status = os.fstat(file.fileno())
            _check_access(path, status)
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"the key file {path} cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise InvalidInput(f"the key file {path} is larger than {MAX_BYTES} bytes")
    try:
        document = _Document.model_validate_json(text)
    except ValidationError as error:
        # Where and what, never the value: it may be a key somebody put in the wrong place.
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'document'}: {one['msg']}"
            for one in error.errors(include_input=False)
        )
        raise InvalidInput(f"the key file {path} is wrong: {wrong}") from error
    return _version(status), KeyRing(entry.key() for entry in document.keys)


def _check_access(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"the key file {path} is no plain file")
    if status.st_uid not in (os.geteuid(), 0):
        raise InvalidInput(f"the key file {path} belongs to somebody else")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise InvalidInput(f"the key file {path} has mode {mode:04o}; only its owner may use it")


def _version(status: os.stat_result) -> _Version:
    return (status.st_ino, status.st_mtime_ns, status.st_size)
