"""etcd's own command line, unmodified, on the store: gRPC through the one port of each node."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from month5_kvstore.etcd_api import unsealed
from month5_kvstore.store import Interval, Range, restore
from tests.integration.month5.etcd_api.api import Api
from tests.integration.month5.node.cluster import Cluster, wait_for

pytestmark = pytest.mark.timeout(240)

_WITHIN_S = 60.0
Ctl = Callable[..., str]


@pytest.fixture(scope="module")
def program(cluster: Cluster) -> str:
    from scalelab.lab.servers import providers
    from scalelab.lab.servers.etcd import CLIENT_RECIPE

    options = providers.ProviderOptions.from_environment(os.environ)
    return str(providers.Providers(options).obtain(CLIENT_RECIPE).path)


def command(program: str, cluster: Cluster, *words: str) -> list[str]:
    endpoints = ",".join(cluster.stack.etcd_urls.values())
    times = ["--command-timeout=60s", "--dial-timeout=30s"]
    return [program, f"--endpoints={endpoints}", *times, *words]


@pytest.fixture(scope="module")
def ctl(program: str, cluster: Cluster) -> Ctl:
    """Runs it; what it prints, or what it says went wrong."""

    def run(*words: str, value: str | None = None) -> str:
        done = subprocess.run(
            command(program, cluster, *words),
            input=value,
            capture_output=True,
            text=True,
            timeout=_WITHIN_S * 2,
            env={"ETCDCTL_API": "3", "PATH": os.environ["PATH"]},
            check=False,
        )
        return done.stdout if done.returncode == 0 else f"failed: {done.stderr}"

    return run


def told(text: str) -> Any:
    assert not text.startswith("failed"), text
    return json.loads(text)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def test_what_is_put_is_got_by_key_by_prefix_and_by_range(ctl: Ctl) -> None:
    for name in ("a", "b", "c"):
        assert lines(ctl("put", f"ctl/get/{name}", name.upper())) == ["OK"]
    assert lines(ctl("get", "ctl/get/b")) == ["ctl/get/b", "B"]
    every = lines(ctl("get", "--prefix", "ctl/get/", "--keys-only", "--order=DESCEND"))
    assert every == ["ctl/get/c", "ctl/get/b", "ctl/get/a"]
    assert lines(ctl("get", "ctl/get/a", "ctl/get/c", "--print-value-only")) == ["A", "B"]
    counted = told(ctl("get", "--prefix", "ctl/get/", "--limit=2", "-w", "json"))
    assert (counted["count"], len(counted["kvs"]), counted["more"]) == (3, 2, True)


def test_the_past_is_got_by_its_revision(ctl: Ctl) -> None:
    first = told(ctl("put", "ctl/rev", "one", "-w", "json"))["header"]["revision"]
    ctl("put", "ctl/rev", "two")
    assert lines(ctl("get", "ctl/rev", f"--rev={first}")) == ["ctl/rev", "one"]
    assert "required revision is a future revision" in ctl("get", "ctl/rev", "--rev=99999999")


def test_a_transaction_takes_the_branch_its_comparisons_say(ctl: Ctl) -> None:
    ctl("put", "ctl/txn", "old")
    script = 'value("ctl/txn") = "old"\n\nput ctl/txn new\nget ctl/txn\n\nget ctl/txn\n\n'
    assert lines(ctl("txn", value=script)) == ["SUCCESS", "OK", "ctl/txn", "new"]
    assert lines(ctl("txn", value=script)) == ["FAILURE", "ctl/txn", "new"]


def test_deleting_tells_how_many_and_what_there_was(ctl: Ctl) -> None:
    for name in ("a", "b"):
        ctl("put", f"ctl/del/{name}", name)
    gone = lines(ctl("del", "--prefix", "--prev-kv", "ctl/del/"))
    assert gone == ["2", "ctl/del/a", "a", "ctl/del/b", "b"]
    assert lines(ctl("del", "ctl/del/a")) == ["0"]


def test_a_lease_is_granted_told_of_listed_kept_and_revoked(ctl: Ctl) -> None:
    lease = ctl("lease", "grant", "600").split()[1]
    ctl("put", "ctl/leased", "v", f"--lease={lease}")
    assert "granted with TTL(600s)" in ctl("lease", "timetolive", lease)
    assert "attached keys([ctl/leased])" in ctl("lease", "timetolive", "--keys", lease)
    assert lease in ctl("lease", "list")
    assert "TTL(600)" in ctl("lease", "keep-alive", "--once", lease)
    assert "revoked" in ctl("lease", "revoke", lease)
    assert lines(ctl("get", "ctl/leased")) == []
    assert "requested lease not found" in ctl("lease", "revoke", lease)
    assert "requested lease not found" in ctl("put", "ctl/leased", "v", f"--lease={lease}")


def test_a_lease_that_nobody_keeps_takes_its_keys_along(ctl: Ctl) -> None:
    lease = ctl("lease", "grant", "2").split()[1]
    ctl("put", "ctl/short", "v", f"--lease={lease}")
    wait_for(lambda: not lines(ctl("get", "ctl/short")), "the end of a lease")
    assert "already expired" in ctl("lease", "timetolive", lease)


@pytest.fixture
def watcher(program: str, cluster: Cluster) -> Iterator[Callable[..., IO[str]]]:
    """Starts `etcdctl watch`; its output."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> IO[str]:
        process = subprocess.Popen(
            command(program, cluster, "watch", *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"ETCDCTL_API": "3", "PATH": os.environ["PATH"]},
        )
        running.append(process)
        assert process.stdout is not None
        return process.stdout

    yield start
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_watch_from_a_revision_tells_of_then_and_of_now(
    ctl: Ctl, watcher: Callable[..., IO[str]]
) -> None:
    first = told(ctl("put", "ctl/watch/a", "1", "-w", "json"))["header"]["revision"]
    ctl("del", "ctl/watch/a")
    heard = watcher("--prefix", "ctl/watch/", f"--rev={first}", "--prev-kv")
    past = [heard.readline().strip() for _ in range(7)]
    assert past == ["PUT", "ctl/watch/a", "1", "DELETE", "ctl/watch/a", "1", "ctl/watch/a"]
    ctl("put", "ctl/watch/b", "2")
    rest = [heard.readline().strip() for _ in range(4)]
    assert [line for line in rest if line][:3] == ["PUT", "ctl/watch/b", "2"]


def test_what_is_compacted_cannot_be_read_any_more(ctl: Ctl) -> None:
    first = told(ctl("put", "ctl/old", "1", "-w", "json"))["header"]["revision"]
    last = told(ctl("put", "ctl/old", "2", "-w", "json"))["header"]["revision"]
    assert f"compacted revision {last}" in ctl("compact", str(last))
    assert "required revision has been compacted" in ctl("get", "ctl/old", f"--rev={first}")
    assert "required revision has been compacted" in ctl("compact", str(first))
    assert lines(ctl("get", "ctl/old", f"--rev={last}")) == ["ctl/old", "2"]


def test_every_endpoint_tells_its_status_and_they_agree_on_the_leader(ctl: Ctl) -> None:
    states = [one["Status"] for one in told(ctl("endpoint", "status", "-w", "json"))]
    assert len(states) == 3
    assert len({one["leader"] for one in states}) == 1
    assert states[0]["leader"] in {one["header"]["member_id"] for one in states}
    assert {one["version"] for one in states} == {"3.4.0"}


def test_every_endpoint_is_healthy_and_hashes_the_same(ctl: Ctl) -> None:
    health = told(ctl("endpoint", "health", "-w", "json"))
    assert [one["health"] for one in health] == [True] * 3
    revision = told(ctl("put", "ctl/hash", "v", "-w", "json"))["header"]["revision"]

    def agree() -> bool:
        told_of = ctl("endpoint", "hashkv", f"--rev={revision}", "-w", "json")
        return not told_of.startswith("failed") and (
            len({one["HashKV"]["hash"] for one in json.loads(told_of)}) == 1
        )

    wait_for(agree, "equal hashes at one revision")


def test_the_members_are_listed_with_the_addresses_of_the_stack(ctl: Ctl, cluster: Cluster) -> None:
    members = told(ctl("member", "list", "-w", "json"))["members"]
    assert [one["clientURLs"] for one in members] == [
        [url] for url in cluster.stack.etcd_urls.values()
    ]


def test_a_saved_snapshot_holds_the_store(
    program: str, cluster: Cluster, ours: list[Api], tmp_path: Path
) -> None:
    value = os.urandom(200_000)
    ours[0].put(b"ctl/saved", value)
    ours[0].range(b"ctl/saved")
    file = tmp_path / "saved"
    words = [program, f"--endpoints={ours[0].url}", "snapshot", "save", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    store = restore(unsealed(file.read_bytes()))
    assert store.find(Range(Interval(b"ctl/saved"))).items[0].value == value


def test_what_is_not_there_says_so(ctl: Ctl) -> None:
    assert "Unimplemented" in ctl("member", "add", "new", "--peer-urls=http://127.0.0.1:1")
    assert "Unimplemented" in ctl("user", "list")


def test_binary_keys_and_values_pass_unchanged(ctl: Ctl, ours: list[Api]) -> None:
    key, value = bytes(range(1, 256)), bytes(range(256))
    ours[1].put(key, value)
    found = ours[2].range(key)["kvs"][0]
    assert base64.b64decode(found["value"]) == value
