"""Port choice, with a stand-in for the machine's answer to "is it free?"."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalelab.lab.servers import ServerFailed
from scalelab.lab.servers.ports import Ports, is_free


def test_the_default_is_taken_when_it_is_free(tmp_path: Path) -> None:
    """A person's stack listens where the page says."""
    assert Ports(private=False, free=lambda port: True, locks=tmp_path).port("redis", 6379) == 6379


@pytest.mark.parametrize("private", [True, False])
def test_another_port_is_taken_when_the_default_cannot_be(private: bool, tmp_path: Path) -> None:
    """Private, or with the default occupied: a port that is free and not the default."""
    ports = Ports(private=private, free=lambda port: port != 6379, locks=tmp_path)
    assert 20_000 <= ports.port("redis", 6379) < 32_000


def test_a_name_keeps_its_port_and_no_port_is_given_twice(tmp_path: Path) -> None:
    """A hundred names with one default get a hundred ports, the same ones when asked again."""
    ports = Ports(private=False, free=lambda port: True, locks=tmp_path)
    given = [ports.port(f"s{i}", 5432) for i in range(100)]
    assert len(set(given)) == 100
    assert [ports.port(f"s{i}", 1) for i in range(100)] == given


def test_a_machine_without_free_ports_gives_a_sentence(tmp_path: Path) -> None:
    """No endless search."""
    with pytest.raises(ServerFailed, match=r"No free port .* ./lab down"):
        Ports(private=True, free=lambda port: False, locks=tmp_path).port("redis", 6379)


def test_a_listening_port_is_not_free() -> None:
    """The real question, asked of a socket of our own."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not is_free(listener.getsockname()[1])


def test_two_stacks_never_choose_the_same_port(tmp_path: Path) -> None:
    """A port that is chosen but not yet bound is reserved, until its stack lets it go."""
    allowed = (20_001, 20_002)
    first = Ports(private=False, free=lambda port: port in allowed, locks=tmp_path)
    second = Ports(private=False, free=lambda port: port in allowed, locks=tmp_path)
    assert first.port("a", 20_001) == 20_001
    assert second.port("a", 20_002) == 20_002
    third = Ports(private=False, free=lambda port: port in allowed, locks=tmp_path)
    with pytest.raises(ServerFailed):
        third.port("a", 20_001)
    first.release()
    assert third.port("a", 20_001) == 20_001
