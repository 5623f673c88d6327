"""Which tables a move takes along, and what it must know of each. Values and SQL, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql


@dataclass(frozen=True, slots=True)
class MovedTable:
    """A table whose rows belong to slots. slot: its column. Parents stand before children."""

    name: str
    slot: str = "slot"


@dataclass(frozen=True, slots=True)
class EmptiedTable:
    """A table whose rows stay at the source, and must be done with before their slot is open
    elsewhere: an outbox. done: its column that is NULL until a row is. slot: as in MovedTable."""

    name: str
    done: str
    slot: str = "slot"

    def waiting(self) -> sql.Composed:
        """How many rows of slots are not done. Parameter: the slots."""
        return sql.SQL("SELECT count(*) FROM {} WHERE {} IS NULL AND {} = ANY(%s)").format(
            *map(sql.Identifier, (self.name, self.done, self.slot))
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """A table as the source has it. columns: without generated ones. keys: of the primary key."""

    table: MovedTable
    columns: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def name(self) -> sql.Identifier:
        """The table, quoted."""
        return sql.Identifier(self.table.name)

    @property
    def of_slots(self) -> sql.Composed:
        """The condition `slot in the moving ones`, with one parameter."""
        return sql.SQL("{} = ANY(%s)").format(sql.Identifier(self.table.slot))

    @property
    def column_list(self) -> sql.Composed:
        """All columns, quoted, in the source's order."""
        return names(self.columns)

    @property
    def key_list(self) -> sql.Composed:
        """The key's columns, quoted."""
        return names(self.keys)

    def copy_out(self, slots: Sequence[int]) -> sql.Composed:
        """COPY of the moving rows, binary. COPY takes no parameters, so the slots are literals."""
        wanted = sql.SQL(", ").join(sql.Literal(slot) for slot in slots)
        return sql.SQL(
            "COPY (SELECT {} FROM {} WHERE {} IN ({})) TO STDOUT (FORMAT binary)"
        ).format(self.column_list, self.name, sql.Identifier(self.table.slot), wanted)

    def copy_in(self) -> sql.Composed:
        """COPY of what `copy_out` gave."""
        return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            self.name, self.column_list
        )

    def fingerprint(self) -> sql.Composed:
        """Count of the moving rows, and one number that any change of any of them would change.

        Each column's text is hashed by its bytes, NULL as NULL, with the hash of the row's key as
        its seed: sums alone would not see two rows exchange a value. Writers wait for it, and this
        takes half the time of hashing the text of whole rows.
        """
        return sql.SQL(
            "SELECT count(*), coalesce(sum(hash_array_extended({},"
            " hash_array_extended({}, 0))), 0)::text FROM {} WHERE {}"
        ).format(_texts(self.columns), _texts(self.keys), self.name, self.of_slots)

    def delete_some(self) -> sql.Composed:
        """Remove up to so many moving rows. Parameters: slots, most."""
        return sql.SQL(
            "DELETE FROM {0} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {0} WHERE {1} LIMIT %s))"
        ).format(self.name, self.of_slots)


def names(columns: Sequence[str]) -> sql.Composed:
    """Columns, quoted, with commas."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _texts(columns: Sequence[str]) -> sql.Composed:
    """An array of the columns' texts, whatever their types and collations."""
    texts = (sql.SQL('{}::text COLLATE "C"').format(sql.Identifier(one)) for one in columns)
    return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(texts))
