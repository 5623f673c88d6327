"""The runtime: services, failures a person meets, side by side, pause, restart, memory."""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from scalelab.lab.runtime import Progress, Runtime, ServiceSpec, remove_data
from scalelab.lab.servers import (
    Nginx,
    Postgres,
    ProviderOptions,
    Providers,
    Redis,
    ServerFailed,
    ServerMissing,
)

Until = Callable[..., None]
ECHO = str(Path(__file__).with_name("echo_service.py"))


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def echo(runtime: Runtime, name: str = "echo", **more: object) -> ServiceSpec:
    """The tiny service on a free port."""
    port = runtime.port(name, 8000)
    return ServiceSpec(name, ("python", ECHO, str(port)), port, **more)  # pyright: ignore[reportArgumentType]


def state_of(runtime: Runtime, name: str) -> str:
    """The state that status() tells."""
    return next(row.state for row in runtime.status() if row.name == name)


def test_a_service_is_ready_when_start_returns(own_runtime: Runtime) -> None:
    """Its address answers, its pid is the one in the status, its memory is counted."""
    service = own_runtime.service(echo(own_runtime))
    (row,) = own_runtime.status()
    assert ask(service.port, "/pid") == (200, str(row.pid))
    assert row.state == "running"
    assert row.rss_bytes
    assert row.pss_bytes
    assert row.pss_bytes <= row.rss_bytes


def test_a_service_inherits_no_stray_settings(
    own_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of somebody's shell does not reach a service; one in its spec does."""
    monkeypatch.setenv("ORDERS_DATABASE_DSN", "stray")
    service = own_runtime.service(echo(own_runtime, env={"ORDERS_PORT": "1"}))
    names = ask(service.port, "/env")[1].split("\n")
    assert "ORDERS_PORT" in names
    assert "ORDERS_DATABASE_DSN" not in names


def test_a_service_marked_for_restart_comes_back(own_runtime: Runtime, until: Until) -> None:
    """Killed from outside, it answers again with another pid; a stopped one stays away."""
    service = own_runtime.service(echo(own_runtime, restart=True))
    first = int(ask(service.port, "/pid")[1])
    os.kill(first, signal.SIGKILL)

    def answers_anew() -> bool:
        return _pid(service.port) not in ("", str(first))

    until(answers_anew, what="another process serves the port")
    own_runtime.stop("echo")
    assert state_of(own_runtime, "echo") == "stopped"


def _pid(port: int) -> str:
    try:
        return ask(port, "/pid")[1]
    except OSError:
        return ""


def test_a_service_without_restart_is_reported_dead(own_runtime: Runtime, until: Until) -> None:
    """The status says dead, and restart brings it back on the same port."""
    service = own_runtime.service(echo(own_runtime))
    os.kill(int(ask(service.port, "/pid")[1]), signal.SIGKILL)
    until(lambda: state_of(own_runtime, "echo") == "dead", what="the death is noticed")
    own_runtime.restart("echo")
    assert ask(service.port, "/pid")[0] == 200


def test_the_memory_cap_refuses_a_large_allocation(own_runtime: Runtime) -> None:
    """A service capped at 300 MiB cannot allocate 600; the service itself goes on."""
    service = own_runtime.service(echo(own_runtime, memory_mb=300))
    assert ask(service.port, "/eat") == (500, "no memory")
    assert ask(service.port, "/pid")[0] == 200


def test_a_paused_server_answers_nothing_until_resumed(own_runtime: Runtime) -> None:
    """Its port still accepts (the kernel does), but no answer comes; resumed, it answers."""
    service = own_runtime.service(echo(own_runtime))
    own_runtime.pause("echo")
    connection = HTTPConnection("127.0.0.1", service.port, timeout=0.3)
    connection.request("GET", "/pid")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    assert state_of(own_runtime, "echo") == "paused"
    own_runtime.resume("echo")
    assert ask(service.port, "/pid")[0] == 200


def test_a_failed_start_says_what_where_and_why(own_runtime: Runtime) -> None:
    """One message: name, address, the end of the log, the next step; others keep running."""
    good = echo(own_runtime, "good")
    bad = ServiceSpec("bad", ("python", "-c", "print('no disk left'); raise SystemExit(3)"), 1)
    own_runtime.service(good)
    with pytest.raises(ServerFailed) as caught:
        own_runtime.service(bad)
    for part in ("bad", "code 3", "127.0.0.1:1", "no disk left", "./lab logs bad"):
        assert part in str(caught.value)
    assert [state_of(own_runtime, name) for name in ("good", "bad")] == ["running", "failed"]


def test_the_cause_is_reported_not_its_consequence(own_runtime: Runtime) -> None:
    """A replica given up because its primary failed does not hide the primary's error."""
    primary = Postgres("broken", settings={"shared_buffers": "nonsense"})
    with pytest.raises(ServerFailed, match=r'broken ended with code .*"nonsense"'):
        own_runtime.start(primary.add_replica("follower"), primary)


def test_a_server_that_cannot_be_had_is_named(server_root: Path) -> None:
    """Which one, why, and what to do, in one sentence; nothing is installed."""
    options = ProviderOptions(
        server_root, server_root / "venv", server_root / "none.lock", "wheel", apt=False
    )
    with (
        Runtime(server_root / uuid.uuid4().hex, private=True, providers=Providers(options)) as own,
        pytest.raises(ServerMissing) as caught,
    ):
        own.start(Nginx(""))
    assert re.search(r"no nginx .* 1\.18 .*only wheel.* apt-get install", str(caught.value))
    assert not options.venv.exists()


def test_two_private_runtimes_do_not_collide(server_root: Path) -> None:
    """The same names side by side: other ports, other passwords, other data."""
    first, second = (Runtime(server_root / uuid.uuid4().hex[:8], private=True) for _ in range(2))
    with first, second:
        one, two = Redis("redis"), Redis("redis")
        first.start(one)
        second.start(two)
        assert one.port != two.port
        assert one.password != two.password
        assert one.folder != two.folder
        first.kill("redis")
        assert state_of(second, "redis") == "running"


def test_close_ends_every_child(server_root: Path) -> None:
    """After close no process of the runtime lives, paused ones included, and starts are refused."""
    runtime = Runtime(server_root / uuid.uuid4().hex[:8], private=True)
    with runtime:
        runtime.start(Redis("redis"), Postgres("postgres"))
        runtime.service(echo(runtime))
        runtime.pause("echo")
        pids = [row.pid for row in runtime.status() if row.pid]
        pids += [child.pid for pid in pids for child in psutil.Process(pid).children()]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    with pytest.raises(ServerFailed, match="closed"):
        runtime.start(Redis("late"))
    runtime.close()


def test_a_disposable_runtime_asks_nobody_to_finish(server_root: Path) -> None:
    """Its service is not told to drain, its PostgreSQL makes no last checkpoint, all are gone."""
    root = server_root / uuid.uuid4().hex[:8]
    with Runtime(root, private=True, is_disposable=True) as runtime:
        runtime.service(echo(runtime))
        runtime.start(Postgres("postgres"))
        family = [psutil.Process(row.pid) for row in runtime.status()]
        log = runtime.log_path("postgres")
    assert not any(process.is_running() for process in family)
    text = log.read_text()
    assert "received immediate shutdown request" in text
    assert "checkpoint starting: shutdown" not in text


def test_the_observer_hears_every_stage(server_root: Path) -> None:
    """Each stage of a start, a death, a return and the stop, in order, with growing seconds."""
    heard: list[Progress] = []
    root = server_root / uuid.uuid4().hex[:8]
    with Runtime(root, private=True, observer=heard.append) as runtime:
        runtime.start(Redis("redis"))
        runtime.kill("redis")
        runtime.restart("redis")
    up = ["preparing", "starting", "ready"]
    assert [event.stage for event in heard] == [*up, "died", *up, "stopped"]
    first = [event.seconds for event in heard[:4]]
    assert first == sorted(first)


def test_nothing_runs_as_root(own_runtime: Runtime) -> None:
    """Whoever starts the stack, no server process has the user id 0."""
    own_runtime.start(Redis("redis"), Postgres("postgres"))
    for row in own_runtime.status():
        assert row.pid is not None
        assert all(uid != 0 for uid in psutil.Process(row.pid).uids())


def test_an_unreachable_folder_gets_a_stand_in(server_root: Path) -> None:
    """Below a folder closed to others, as a clone in /root is, servers still run when root asks."""
    closed = server_root / uuid.uuid4().hex[:8]
    closed.mkdir(mode=0o700)
    with Runtime(closed / "clone" / "stack", private=True) as runtime:
        runtime.start(Postgres("postgres"), Redis("redis"))
        moved = runtime.data
        assert (closed in moved.parents) == (os.geteuid() != 0)
        assert (closed / "clone" / "stack" / "logs" / "redis.log").exists()
    assert moved.exists() == (os.geteuid() != 0)


@pytest.mark.parametrize("name", ["", "../etc", "a/b", ".hidden", "a b"])
def test_a_name_cannot_leave_the_data_folder(name: str) -> None:
    """Names become folders and files, so they are checked first."""
    from scalelab.errors import InvalidInput

    with pytest.raises(InvalidInput):
        Redis(name)


def test_data_are_kept_for_who_asks_for_them(tmp_path: Path) -> None:
    """A run that turns out red is looked into after its servers have stopped."""
    with Runtime(tmp_path / "run", private=True, keep_data=True) as runtime:
        kept = runtime.data / "evidence"
        kept.write_text("rows")
    assert kept.read_text() == "rows"
    remove_data(tmp_path / "run")
    assert not kept.exists()
