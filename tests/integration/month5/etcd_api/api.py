"""etcd's JSON gateway for tests: calls, and answers without what no two clusters share."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

Json = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Api:
    """One gateway."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=60.0, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def post(self, path: str, body: Json | bytes) -> tuple[int, Json]:
        """Status, and the one object that the answer holds (of a stream the first)."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self._client.post(f"/v3/{path}", content=content)
        document: Json = json.loads(answer.text.splitlines()[0])
        return answer.status_code, document

    def ok(self, path: str, body: Json) -> Json:
        """The answer to what must succeed."""
        status, document = self.post(path, body)
        assert status == 200, document
        return document

    def get(self, path: str) -> httpx.Response:
        return self._client.get(path)

    def put(self, key: bytes, value: bytes = b"", **more: Any) -> Json:
        return self.ok("kv/put", {"key": b64(key), "value": b64(value), **more})

    def range(self, key: bytes, **more: Any) -> Json:
        return self.ok("kv/range", {"key": b64(key), **more})

    def revision(self) -> int:
        return int(self.range(b"-")["header"]["revision"])

    @contextmanager
    def watch(self, **request: Any) -> Iterator[Iterator[Json]]:
        """Results of a watch, as they come."""
        body = json.dumps({"create_request": request})
        with self._client.stream("POST", "/v3/watch", content=body) as stream:
            yield (json.loads(line)["result"] for line in stream.iter_lines() if line)


def comparable(document: Any, base: int) -> Any:
    """An answer with its revisions counted from `base`, without names of clusters and terms."""
    if isinstance(document, list):
        return [comparable(one, base) for one in document]
    if not isinstance(document, dict):
        return document
    told: Json = {}
    for name, value in document.items():
        if name in ("cluster_id", "member_id", "raft_term"):
            continue
        shifts = name in ("revision", "create_revision", "mod_revision", "compact_revision")
        told[name] = int(value) - base if shifts else comparable(value, base)
    return told
