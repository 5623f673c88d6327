"""nginx and Prometheus from this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Nginx, Prometheus, ServerFailed

PAGE = """
  server {
    listen 127.0.0.1:$PORT;
    location = /hello { default_type text/plain; return 200 "from $DIR"; }
    location = /note { root $DIR; try_files /note.txt =404; }
  }
"""


def fetch(url: str) -> str:
    """Body of a GET."""
    with urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def test_nginx_serves_its_configuration(own_runtime: Runtime) -> None:
    """Port and folder are filled in; files beside the configuration are served; it comes back."""
    server = Nginx(PAGE, files={"note.txt": "a note"})
    own_runtime.start(server)
    own_runtime.kill(server.name)
    own_runtime.restart(server.name)
    assert fetch(f"{server.url}/hello") == f"from {server.folder}"
    assert fetch(f"{server.url}/note") == "a note"


def test_a_wrong_nginx_configuration_is_quoted(own_runtime: Runtime) -> None:
    """The check's own words reach the reader before anything is started."""
    with pytest.raises(ServerFailed, match="unknown directive"):
        own_runtime.start(Nginx("nonsense;"))


def test_prometheus_scrapes_its_targets(own_runtime: Runtime, until: Callable[..., None]) -> None:
    """A target that answers is up, one that does not is down; samples survive kill -9."""
    port, dead = own_runtime.port("prometheus", 9090), own_runtime.port("nobody", 9)
    targets = {"itself": [f"127.0.0.1:{port}"], "nobody": [f"127.0.0.1:{dead}"]}
    rules = _rules(own_runtime.root)
    server = Prometheus(targets, port=port, scrape_interval_s=0.2, rules=[rules])
    own_runtime.start(server)
    wanted = {"itself": "1", "nobody": "0"}
    until(lambda: _query(server, "up", "job") == wanted, what="both targets are judged")
    until(lambda: bool(_query(server, "ups:count", "job")), what="the rule is evaluated")
    own_runtime.kill(server.name)
    own_runtime.restart(server.name)
    assert _query(server, "count_over_time(up[5m])", "job").keys() == wanted.keys()


def _rules(folder: Path) -> Path:
    path = folder / "count.rules.yml"
    path.write_text(
        "groups: [{name: g, rules: [{record: 'ups:count', expr: 'count(up)', labels: {job: c}}]}]"
    )
    return path


def _query(server: Prometheus, query: str, label: str) -> dict[str, str]:
    rows = json.loads(fetch(f"{server.url}/api/v1/query?query={query}"))["data"]["result"]
    return {row["metric"][label]: row["value"][1] for row in rows}
