"""Stacks through the command line: one supervisor, parent of all servers, found by its lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.integration.core.cli.conftest import ONE_REDIS, Clone, eventually

FAILS = """
from scalelab.lab.servers import {error}

def start(runtime):
    raise {error}("There is no Kafka for this stack. Try: buy one.")
"""

CRASHES = """
def start(runtime):
    return 1 / 0
"""

# Starts a Redis, then waits for ever, as a server that never becomes ready would.
HANGS = ONE_REDIS.replace("return [", "import threading; threading.Event().wait(); return [")


def redis_pid(clone: Clone) -> int:
    """Pid of the toy stack's server."""
    (stack,) = clone.json("status")["stacks"]
    (process,) = stack["processes"]
    return int(process["pid"])


def test_up_status_logs_down(clone: Clone) -> None:
    """The whole life of a stack, as a person sees it."""
    clone.month(1, {"stack.py": ONE_REDIS})
    up = clone.lab("up", "month1")
    assert up.returncode == 0, up.stderr
    assert "month1 is ready." in up.stdout
    assert "redis://@127.0.0.1:" in up.stdout
    assert "./lab down month1" in up.stdout
    assert up.stderr.startswith("starting month1 in .lab/stacks/month1: takes about")
    assert "redis: running on 127.0.0.1:" in up.stderr

    (stack,) = clone.json("status", "month1")["stacks"]
    (process,) = stack["processes"]
    assert (stack["month"], stack["phase"]) == ("month1", "ready")
    assert (process["name"], process["state"]) == ("redis", "running")
    assert process["version"]
    assert process["rss_bytes"] > 0
    assert psutil.Process(process["pid"]).ppid() == stack["supervisor_pid"]
    assert "redis" in clone.lab("status").stdout
    assert "Ready to accept connections" in clone.lab("logs", "redis").stdout
    assert len(clone.lab("logs", "redis", "-n", "2").stdout.splitlines()) == 2
    assert "redis ready" in clone.lab("logs", "supervisor").stdout

    assert clone.json("down") == {"stopped": ["month1"]}
    assert not psutil.pid_exists(process["pid"])
    assert clone.json("status") == {"stacks": []}
    assert clone.lab("status", "month1").returncode == 1
    assert "Ready to accept connections" in clone.lab("logs", "redis").stdout
    assert clone.json("down") == {"stopped": []}


def test_a_month_without_a_stack_says_which_have_one(clone: Clone) -> None:
    """Wrong usage, not a failure; nothing is started."""
    clone.month(1, {"stack.py": ONE_REDIS})
    clone.month(2, {})
    up = clone.lab("up", "month2")
    assert up.returncode == 2
    assert "month2 has no stack of its own yet; those that have one: month1." in up.stderr
    assert clone.json("status") == {"stacks": []}


def test_a_second_up_attaches(clone: Clone) -> None:
    """Same supervisor, same links, exit 0, one document."""
    clone.month(1, {"stack.py": ONE_REDIS})
    first, second = clone.json("up", "month1"), clone.json("up", "1")
    assert first["links"] == second["links"]
    assert first["supervisor_pid"] == second["supervisor_pid"]
    assert first["processes"][0]["pid"] == second["processes"][0]["pid"]
    third = clone.lab("up", "month1")
    assert third.stderr == "month1 was running already; this is the same stack.\n"


def test_two_ups_at_once_start_one_stack(clone: Clone) -> None:
    """Whoever loses the lock attaches to the winner."""
    clone.month(1, {"stack.py": ONE_REDIS})
    starts = [clone.spawn("up", "month1", "--json") for _ in range(3)]
    answers = [process.communicate(timeout=90) for process in starts]
    assert [process.returncode for process in starts] == [0, 0, 0], answers
    assert len({json.loads(out)["supervisor_pid"] for out, _ in answers}) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_servers_die_with_a_killed_supervisor(clone: Clone) -> None:
    """SIGKILL leaves no orphan; the stale lock, pid and state stop nobody from starting again."""
    clone.month(1, {"stack.py": ONE_REDIS})
    first = clone.json("up", "month1")
    server = redis_pid(clone)
    os.kill(first["supervisor_pid"], signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(server), "the server ends with its supervisor")
    assert clone.json("status") == {"stacks": []}

    again = clone.json("up", "month1")
    assert again["supervisor_pid"] != first["supervisor_pid"]
    assert redis_pid(clone) != server


def test_a_recycled_pid_is_not_killed(clone: Clone) -> None:
    """A pid file that now names a stranger is recognised by its start time."""
    clone.month(1, {"stack.py": ONE_REDIS})
    state = clone.json("up", "month1")
    assert clone.json("down") == {"stopped": ["month1"]}
    folder = clone.root / ".lab" / "stacks" / "month1"
    stranger = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
    try:
        (folder / "supervisor.pid").write_text(f"{stranger.pid} 1000.0\n")
        published = json.loads((folder / "state.json").read_text())
        published |= {"phase": "ready", "pid": stranger.pid}
        published["processes"] = [
            {**view, "pid": stranger.pid, "started_at_s": 1000.0} for view in published["processes"]
        ]
        (folder / "state.json").write_text(json.dumps(published))
        assert clone.json("down", "month1") == {"stopped": []}
        again = clone.json("up", "month1")
        assert again["supervisor_pid"] not in (stranger.pid, state["supervisor_pid"])
        assert stranger.poll() is None
    finally:
        stranger.communicate()


def test_a_stack_is_stopped_while_it_starts(clone: Clone) -> None:
    """`down` need not wait for a server that never becomes ready, and leaves nothing behind."""
    clone.month(1, {"stack.py": HANGS})
    start = clone.spawn("up", "month1")
    eventually(lambda: len(clone.pids()) == 1, "its server runs")
    server = clone.pids()[0]
    assert clone.json("down") == {"stopped": ["month1"]}
    _, complaint = start.communicate(timeout=60)
    assert start.returncode == 1
    assert "ended before the stack was ready" in complaint
    assert not psutil.pid_exists(server)


def test_an_interrupted_up_stops_what_it_started(clone: Clone) -> None:
    """Ctrl-C means no; the exit code is 130 and no process is left."""
    clone.month(1, {"stack.py": HANGS})
    start = clone.spawn("up", "month1")
    eventually(lambda: len(clone.pids()) == 1, "its server runs")
    server = clone.pids()[0]
    start.send_signal(signal.SIGINT)
    _, complaint = start.communicate(timeout=60)
    assert start.returncode == 130
    assert complaint.endswith("lab: interrupted.\n")
    assert not psutil.pid_exists(server)
    assert clone.json("status") == {"stacks": []}


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (FAILS.format(error="ServerFailed"), 1, "lab: There is no Kafka for this stack."),
        (FAILS.format(error="ServerMissing"), 3, "lab: There is no Kafka for this stack."),
        (CRASHES, 1, "ZeroDivisionError"),
        ("raise ImportError('no aiokafka')", 1, "no aiokafka"),
    ],
    ids=["failed", "missing", "crashed", "unimportable"],
)
def test_a_failed_start_is_one_sentence(clone: Clone, text: str, code: int, says: str) -> None:
    """With the cause's exit code; the traceback is in the supervisor's log, not on the terminal."""
    clone.month(1, {"stack.py": text})
    up = clone.lab("up", "month1")
    assert up.returncode == code
    assert says in up.stderr
    assert "Traceback" not in up.stderr
    assert up.stdout == ""
    assert "Traceback" in clone.lab("logs", "supervisor", "-n", "100").stdout
    assert clone.json("status") == {"stacks": []}


def test_a_dead_server_shows(clone: Clone) -> None:
    """Status says what died, and exits 1."""
    clone.month(1, {"stack.py": ONE_REDIS})
    clone.json("up", "month1")
    os.kill(redis_pid(clone), signal.SIGKILL)

    def dead() -> bool:
        answer = clone.lab("status", "--json")
        (stack,) = json.loads(answer.stdout)["stacks"]
        return stack["processes"][0]["state"] == "dead" and answer.returncode == 1

    eventually(dead, "status tells that the server died")


def test_clean_refuses_while_a_stack_runs(clone: Clone) -> None:
    """And removes everything once it is down."""
    clone.month(1, {"stack.py": ONE_REDIS})
    clone.json("up", "month1")
    refused = clone.lab("clean", "--yes")
    assert refused.returncode == 1
    assert "./lab down" in refused.stderr
    assert clone.json("status")["stacks"]
    clone.json("down")
    assert ".lab/stacks" in [item["path"] for item in clone.json("clean", "--yes")["removed"]]
    assert list((clone.root / ".lab").iterdir()) == []


def test_data_outlive_a_restart(clone: Clone) -> None:
    """Down is not clean: the same folder is used again."""
    clone.month(1, {"stack.py": ONE_REDIS})
    clone.json("up", "month1")
    secrets = clone.root / ".lab" / "stacks" / "month1" / "secrets"
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    clone.json("down")
    clone.json("up", "month1")
    assert before
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before


def test_logs_are_followed(clone: Clone) -> None:
    """`-f` prints what comes later and ends with Ctrl-C."""
    clone.month(1, {"stack.py": ONE_REDIS})
    clone.json("up", "month1")
    reader = clone.spawn("logs", "redis", "-f", "-n", "0")
    assert reader.stdout is not None
    log = clone.root / ".lab" / "stacks" / "month1" / "logs" / "redis.log"
    # It may still be starting: lines are added until one comes out.
    with log.open("a") as file:
        line = ""
        os.set_blocking(reader.stdout.fileno(), False)

        def arrived() -> bool:
            nonlocal line
            file.write("hello\n")
            file.flush()
            line = reader.stdout.readline() if reader.stdout else ""
            return bool(line)

        eventually(arrived, "a line that was added later")
    reader.send_signal(signal.SIGINT)
    reader.communicate(timeout=30)
    assert line == "hello\n"
    assert reader.returncode == 130
