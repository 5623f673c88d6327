"""Claims about `./lab month5 …`, held against three real nodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from month5_kvstore.commands import app
from month5_kvstore.node import GROUPS
from month5_kvstore.stack import node_name
from scalelab.lab.cli.outcome import CommandFailed
from scalelab.lab.cli.place import Place
from scalelab.lab.supervisor.state import ProcessView, StackPaths, StackState, publish
from tests.fixtures.stacks import lock_held
from tests.integration.month5.node.cluster import Cluster

pytestmark = pytest.mark.timeout(240)

Command = Callable[..., Result]


@pytest.fixture
def command(cluster: Cluster, tmp_path: Path) -> Iterator[Command]:
    """A command of the month on the cluster, which stands where `./lab up month5` would put it."""
    paths = StackPaths(tmp_path, "month5")
    paths.folder.mkdir(parents=True)
    views = tuple(
        ProcessView(
            node_name(node), None, 0.0, client.base_url.port, None, None, None, "running", ""
        )
        for node, client in cluster.nodes.items()
    )

    def invoke(*words: str) -> Result:
        line = ["month5", *words]
        return CliRunner().invoke(app, line, obj=Place(tmp_path, tuple(line)))

    with lock_held(paths):
        publish(paths.state, StackState("month5", "ready", "ready", 0, 0.0, processes=views))
        yield invoke


def test_what_was_put_is_got(command: Command) -> None:
    """From a majority, and from one node alone."""
    assert command("put", "command", "a value").stdout.startswith("revision ")
    assert command("get", "command").stdout == "a value\n"
    assert command("get", "command", "--eventual").exit_code == 0


def test_a_key_that_is_not_there_is_said_so(command: Command) -> None:
    result = command("get", "nowhere")
    assert isinstance(result.exception, CommandFailed)
    assert "There is no nowhere" in str(result.exception)


def test_changes_are_watched_from_a_revision_on(command: Command) -> None:
    """Of the one key, in order; the command ends after as many as were wanted."""
    first = command("put", "watched", "one").stdout.split()[1]
    command("put", "watched", "two")
    told = command("watch", "watched", "--revision", first, "--changes", "2", "--node", "2")
    words = [line.split() for line in told.stdout.splitlines()]
    assert [(word[2], word[3]) for word in words] == [("watched", "one"), ("watched", "two")]
    assert int(words[0][0]) == int(first) < int(words[1][0])


def test_status_tells_of_every_group(command: Command) -> None:
    """As lines, and as one document."""
    assert len(command("status").stdout.splitlines()) == GROUPS + 1
    found = json.loads(command("status", "--node", "3", "--json").stdout)
    assert found["node"] == 3
    assert len(found["groups"]) == GROUPS
