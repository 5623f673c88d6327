"""Sealed stream: bytes of any length that nobody reads, changes, reorders or cuts short unnoticed.

Theory of operation
    A file is a header and a row of chunks, each sealed by AES-256-GCM. The nonce of a chunk is
    7 random bytes of the header, the chunk's number, and one byte that says whether it is the
    last. The name the file is stored under is authenticated with every chunk.

        SLB1 | salt (32) | prefix (7) | chunk 0 | chunk 1 | … | last chunk (may be empty)

    Each file has a key of its own, derived from the repository's by HKDF and the salt, so that no
    nonce is used twice under one key, however many files there are.

Invariants (tests cite them)
    I1  What opens is what was sealed: any changed, moved, doubled or missing byte is CorruptData.
    I2  A file opens only under its own name.
    I3  A chunk is handed out only after it was checked; the end only after the last was seen.

Source: Hoang, Reyhanitabar, Rogaway, Vizar 2015, "Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance" (STREAM); differs in: the name as associated data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from scalelab.errors import CorruptData, InvalidInput

KEY_BYTES = 32
CHUNK_BYTES = 1 << 16
_MAGIC = b"SLB1"
_SALT_BYTES, _PREFIX_BYTES, _TAG_BYTES = 32, 7, 16


class Source(Protocol):
    """A binary file open for reading."""

    def read(self, size: int, /) -> bytes: ...


def seal(
    source: Source, key: bytes, name: str, *, random: Callable[[int], bytes] = os.urandom
) -> Iterator[bytes]:
    """The sealed form of `source` for the name it is stored under, piece by piece."""
    salt, prefix = random(_SALT_BYTES), random(_PREFIX_BYTES)
    cipher = _cipher(key, salt)
    yield _MAGIC + salt + prefix
    number, piece = 0, _exactly(source, CHUNK_BYTES)
    while True:
        following = _exactly(source, CHUNK_BYTES) if len(piece) == CHUNK_BYTES else b""
        is_last = not following
        yield cipher.encrypt(_nonce(prefix, number, is_last), piece, name.encode())
        if is_last:
            return
        number, piece = number + 1, following


def unseal(source: Source, key: bytes, name: str) -> Iterator[bytes]:
    """The pieces of what was sealed under `name`. Raises CorruptData (I1); what came before is
    right, but not the whole: use nothing of it before the iterator has ended."""
    head = _exactly(source, len(_MAGIC) + _SALT_BYTES + _PREFIX_BYTES)
    if not head.startswith(_MAGIC) or len(head) < len(_MAGIC) + _SALT_BYTES + _PREFIX_BYTES:
        raise _corrupt(name, "its head is not one of ours")
    prefix = head[-_PREFIX_BYTES:]
    cipher = _cipher(key, head[len(_MAGIC) : -_PREFIX_BYTES])
    size = CHUNK_BYTES + _TAG_BYTES
    number, piece = 0, _exactly(source, size)
    while True:
        following = _exactly(source, size) if len(piece) == size else b""
        is_last = not following
        try:
            yield cipher.decrypt(_nonce(prefix, number, is_last), piece, name.encode())
        except (InvalidTag, ValueError) as error:
            where = f"byte {len(head) + number * size} or later is not what was written"
            raise _corrupt(name, where) from error
        if is_last:
            return
        number, piece = number + 1, following


class PieceReader:
    """An iterable of pieces as a binary file open for reading."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end; all of them for -1."""
        held, length = [self._rest], len(self._rest)
        while size < 0 or length < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            held.append(piece)
            length += len(piece)
        whole = b"".join(held)
        cut = length if size < 0 else size
        self._rest = whole[cut:]
        return whole[:cut]


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise InvalidInput(f"a key has {KEY_BYTES} bytes, not {len(key)}", field="key")
    derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=_MAGIC).derive(key)
    return AESGCM(derived)


def _nonce(prefix: bytes, number: int, is_last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([is_last])


def _exactly(source: Source, size: int) -> bytes:
    """`size` bytes, fewer only at the end: a pipe gives what it has."""
    held = b""
    while len(held) < size:
        piece = source.read(size - len(held))
        if not piece:
            break
        held += piece
    return held


def _corrupt(name: str, why: str) -> CorruptData:
    return CorruptData(
        f"{name} does not open: {why}. It was damaged or sealed with another key; nothing of it "
        "is used. Try: an older backup, or the copy of the repository.",
        code="backup_corrupt",
    )
