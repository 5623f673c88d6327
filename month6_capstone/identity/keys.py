"""The folder of signing keys: the newest signs, all are published.

Each key is a PEM file named `<unix milliseconds>-es256.pem`, so the newest is the last by name and
stays the newest when the folder is copied. The first start makes one. To rotate, add a file and
restart: tokens of the old key verify as long as its file is there.
Absent on purpose, to come: rotation while running, and a new key that is published for a while
before it signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scalelab.errors import CorruptData
from scalelab.security import SigningKey

FIRST = "0000000000000-es256.pem"
"""Name of the key made at the first start: the same for all who start at once, so one wins."""


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """signing: the newest key. published: every key, the newest last."""

    signing: SigningKey
    published: tuple[SigningKey, ...]


def load_keys(folder: Path) -> KeyFolder:
    """The keys of `folder` (made with mode 0700, with a first key, if there is none).

    Raises CorruptData naming the file that others may read or that holds no key of ours.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = _names(folder)
    if not names:
        SigningKey.load_or_create(folder / FIRST)
        names = _names(folder)
    keys = tuple(SigningKey.load(folder / name) for name in names)
    if not keys:
        raise CorruptData(f"{folder} lost its keys while it was read")
    return KeyFolder(signing=keys[-1], published=keys)


def add_key(folder: Path, now: datetime) -> Path:
    """Make a key that signs from the next start on; the path of its file."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{int(now.timestamp() * 1000):013d}-es256.pem"
    SigningKey.generate().save(path)
    return path


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*-es256.pem") if not path.name.startswith("."))
