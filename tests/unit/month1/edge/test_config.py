"""Configurations are built from values, and values cannot break out of their place."""

from __future__ import annotations

import pytest

from month1_caching_gateway.edge import (
    EdgeSettings,
    OriginSettings,
    Servers,
    Tls,
    edge_config,
    edge_files,
    origin_config,
)
from month1_caching_gateway.edge.template import fill
from scalelab.errors import InvalidInput

BEHIND = Servers(("127.0.0.1:1", "127.0.0.1:2"))
TLS = Tls(8443, "certificate", "private key")


@pytest.mark.parametrize(
    ("text", "values"),
    [("{{a}} {{b}}", {"a": "1"}), ("{{a}}", {"a": "1", "b": "2"})],
    ids=["missing", "unused"],
)
def test_a_gap_and_its_value_belong_together(text: str, values: dict[str, str]) -> None:
    """A misspelt name in either place is found at once."""
    with pytest.raises(InvalidInput, match="'b'"):
        fill(text, values)


@pytest.mark.parametrize("evil", ["a; return 200", "a} server {", "a\nb", "$DIR", 'a"', "a#b", ""])
def test_a_value_cannot_become_a_directive(evil: str) -> None:
    """Names, hosts, addresses and folders are checked where they enter."""
    with pytest.raises(InvalidInput):
        edge_config(EdgeSettings(evil, ("h",), BEHIND))
    with pytest.raises(InvalidInput):
        edge_config(EdgeSettings("e", (evil,), BEHIND))
    with pytest.raises(InvalidInput):
        edge_config(EdgeSettings("e", ("h",), Servers((evil,))))
    with pytest.raises(InvalidInput):
        origin_config(OriginSettings(("h",), evil, BEHIND))


@pytest.mark.parametrize(
    ("balance", "line"),
    [
        ("round_robin", "zone origin 128k;\n"),
        ("least_conn", "zone origin 128k; least_conn;\n"),
        ("consistent_hash", "zone origin 128k; hash $request_uri consistent;\n"),
    ],
)
def test_the_balance_is_one_line_of_the_upstream(balance: str, line: str) -> None:
    """What decides who gets the next request."""
    servers = Servers(BEHIND.addresses, balance=balance)  # pyright: ignore[reportArgumentType]
    assert line in edge_config(EdgeSettings("e", ("h",), servers))


def test_the_key_stands_in_its_own_file_and_in_no_text_that_is_shown() -> None:
    """Neither in the configuration nor in the settings' repr."""
    settings = EdgeSettings("e", ("h",), BEHIND, TLS)
    assert "private key" not in edge_config(settings) + repr(settings)
    assert edge_files(settings) == {"edge.crt": "certificate", "edge.key": "private key"}
    assert edge_files(EdgeSettings("e", ("h",), BEHIND)) == {}


def test_a_redirect_to_nowhere_and_an_empty_upstream_are_refused() -> None:
    """Mistakes of whoever composes, told before nginx is asked."""
    with pytest.raises(InvalidInput):
        EdgeSettings("e", ("h",), BEHIND, plain_http="redirect")
    with pytest.raises(InvalidInput):
        Servers(())
