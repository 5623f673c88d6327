"""The commands of a running stack: `./lab month5 put`, `get`, `watch`, `status`."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scalelab.lab.cli.outcome import CommandFailed, emit_json, say
from scalelab.lab.cli.running import port_of, run, running

if TYPE_CHECKING:
    import httpx

    from month5_kvstore.client import KvClient
    from scalelab.lab.supervisor.state import StackPaths

_NODES_MAX = 5

month5 = typer.Typer(
    name="month5",
    help="The key-value store: keys to put, get and watch, and what the nodes think.",
    no_args_is_help=True,
)

Key = Annotated[str, typer.Argument(help="Any text.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
NodeOption = Annotated[int, typer.Option(min=1, max=_NODES_MAX, help="The node to ask.")]


@month5.command()
def put(context: typer.Context, key: Key, value: Annotated[str, typer.Argument()]) -> None:
    """Write one key, through whichever node answers, exactly once."""
    urls = _urls(running(context, 5))

    async def work() -> int:
        async with _client(urls) as client:
            return await client.put(key.encode(), value.encode())

    say(f"revision {run(work())}")


@month5.command()
def get(
    context: typer.Context,
    key: Key,
    eventual: Annotated[bool, typer.Option(help="Ask one node only; it may be behind.")] = False,
) -> None:
    """Read one key. Without --eventual it is what a majority agrees on."""
    urls = _urls(running(context, 5))

    async def work() -> str:
        async with _client(urls) as client:
            found = await client.get(key.encode(), eventual=eventual)
        if found is None:
            raise CommandFailed(f"There is no {key}.")
        return found.value.decode(errors="backslashreplace")

    say(run(work()))


@month5.command()
def watch(
    context: typer.Context,
    key: Key,
    revision: Annotated[int, typer.Option(min=0, help="From this one on; 0: from now on.")] = 0,
    changes: Annotated[int, typer.Option(min=0, help="End after so many; 0: never.")] = 0,
    node: NodeOption = 1,
) -> None:
    """Print changes of a key as they happen, until Ctrl-C. With a {tag}: of all that begin so."""
    prefix = "}" in key
    params: dict[str, str | int | bool] = {"key": key, "prefix": prefix, "revision": revision}
    with (
        _asked(running(context, 5), node, timeout_s=None) as http,
        http.stream("GET", "/v1/watch", params=params) as stream,
    ):
        if not stream.is_success:
            raise CommandFailed(stream.read().decode())
        data = (line for line in stream.iter_lines() if line.startswith("data: "))
        for number, line in enumerate(data, 1):
            say(_event_line(json.loads(line.removeprefix("data: "))))
            if number == changes:
                return


@month5.command()
def status(context: typer.Context, node: NodeOption = 1, as_json: JsonFlag = False) -> None:
    """Terms, leaders and logs of all groups as one node sees them."""
    with _asked(running(context, 5), node, timeout_s=10.0) as http:
        found: dict[str, Any] = http.get("/status").raise_for_status().json()
    if as_json:
        emit_json(found)
        return
    say(f"node {found['node']} of {found['cluster']}, connected to {found['connected']}")
    for one in found["groups"]:
        say(
            f"group {one['group']:2}  {one['role']:13}  term {one['term']:3}  "
            f"leader {one['leader']}  applied {one['applied']:6}  revision {one['revision']:6}  "
            f"{one['keys']} keys"
        )


def _event_line(event: dict[str, Any]) -> str:
    item = event.get("item")
    if item is None:
        return f"history before revision {event['compacted']} is compacted away; read, then watch"
    return f"{item['modified']:6}  {event['kind']:6}  {item['key']}  {item['value']}"


def _client(urls: dict[int, str]) -> KvClient:
    from month5_kvstore.client import KvClient
    from scalelab.clock import SystemClock

    return KvClient(urls, clock=SystemClock(), random=Random())


def _urls(paths: StackPaths) -> dict[int, str]:
    """Of the nodes that the stack has, three or five."""
    found: dict[int, str] = {}
    for node in range(1, _NODES_MAX + 1):
        try:
            found[node] = f"http://127.0.0.1:{port_of(paths, f'kvnode-{node}')}"
        except CommandFailed:
            break
    return found


@contextmanager
def _asked(
    paths: StackPaths, node: int, *, timeout_s: float | None
) -> Generator[httpx.Client, None, None]:
    import httpx

    url = f"http://127.0.0.1:{port_of(paths, f'kvnode-{node}')}"
    try:
        with httpx.Client(base_url=url, timeout=timeout_s) as client:
            yield client
    except httpx.HTTPError as error:
        raise CommandFailed(f"Node {node} does not answer: {error}. Try: ./lab status.") from error
