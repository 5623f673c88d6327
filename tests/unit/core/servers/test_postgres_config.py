"""PostgreSQL's configuration text."""

from __future__ import annotations

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from scalelab.lab.servers.postgres_config import primary_conninfo, render, socket_folder


def test_values_cannot_leave_their_quotes() -> None:
    """A quote or a backslash in a value stays part of the value."""
    assert "a = 'it''s \\\\ fine'\n" in render({"a": "it's \\ fine"})


def test_a_connection_string_survives_odd_paths() -> None:
    """libpq's own parser reads back what was written, quotes and spaces included."""
    text = primary_conninfo(5433, Path("/home/o'neil/my clone/.pgpass"), "replica-1")
    parts = conninfo_to_dict(text)
    assert parts["passfile"] == "/home/o'neil/my clone/.pgpass"
    assert (parts["port"], parts["application_name"]) == ("5433", "replica-1")


def test_a_long_path_means_no_socket() -> None:
    """A Unix socket path holds 107 bytes; beyond that PostgreSQL would not start."""
    assert socket_folder(Path("/tmp/short")) == "/tmp/short"
    assert socket_folder(Path("/tmp") / ("x" * 90)) == ""
