"""Numbers and texts as bytes: what Protobuf and Avro have in common.

Theory of operation
    A varint holds seven bits of a number in each byte, the lowest first; the eighth bit says that
    more follow. Small numbers are short, so a negative one, whose two's complement is large, is
    folded first (zigzag): 0, -1, 1, -2 become 0, 1, 2, 3. A text is its length and its UTF-8.

Invariants (tests cite them)
    W1  What was written is read back, and takes as many bytes as the formats' own libraries take.
    W2  A reader never looks beyond its end and never makes room for more than it was given.

Source: Protocol Buffers, "Encoding"; Apache Avro 1.11 specification, "Binary encoding".
"""

from __future__ import annotations

from month3_messaging.codecs.errors import InvalidUtf8, WrongSchema
from scalelab.errors import InvalidInput

VARINT_BYTES_MAX = 10
"""A number of 64 bits has ten groups of seven."""

_MASK = (1 << 64) - 1


def append_varint(out: bytearray, number: int) -> None:
    """Append `number`, 0 to 2**64 - 1."""
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def append_bytes(out: bytearray, value: bytes) -> None:
    """Append the length of `value` as a varint, then `value`."""
    append_varint(out, len(value))
    out += value


def zigzag(number: int) -> int:
    """Fold a signed number of 64 bits: small in either direction is small."""
    return (number << 1 ^ number >> 63) & _MASK


def unzigzag(number: int) -> int:
    """The signed number that was folded."""
    return number >> 1 ^ -(number & 1)


def to_unsigned(number: int) -> int:
    """Two's complement in 64 bits: a negative number is always ten bytes as a varint."""
    return number & _MASK


def to_signed(number: int) -> int:
    """The signed number of a two's complement in 64 bits."""
    return number - (1 << 64) if number >> 63 else number


def to_utf8(text: str) -> bytes:
    """Text as UTF-8. Raises InvalidInput for half of a surrogate pair, which has none."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a text cannot be UTF-8: {error.reason}") from error


def to_text(value: bytes) -> str:
    """UTF-8 as text. Raises InvalidUtf8."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidUtf8(f"a text is not UTF-8: {error.reason} at byte {error.start}") from error


class Reader:
    """Bytes and a place in them. Every read raises WrongSchema rather than go beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def varint(self) -> int:
        """An unsigned number of 64 bits."""
        number = 0
        for group, byte in enumerate(self._data[self._at : self._at + VARINT_BYTES_MAX]):
            number |= (byte & 0x7F) << 7 * group
            if byte < 0x80:
                if number > _MASK:
                    break
                self._at += group + 1
                return number
        raise WrongSchema("a number has no end, or more than 64 bits")

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size < 0 or size > self.left:
            raise WrongSchema(f"{size} bytes wanted and {self.left} left")
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken
