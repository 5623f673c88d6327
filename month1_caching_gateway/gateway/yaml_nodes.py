"""YAML read with care: plain values, the line of each, and bounds on what a text may become.

Theory of operation
    The library's parser yields events one after the other, without recursion; the tree is built
    here on a stack. So depth, size and aliases are bounded *while* they grow, and every value keeps
    the line it was written on. Only plain YAML is understood: no tags, no custom objects.

Invariants (tests cite them)
    Y1  A text that is accepted stands for at most `max_nodes` values, aliases written out, at most
        `max_depth` deep.
    Y2  A mapping's keys are texts, and none is given twice.
    Y3  Whatever is refused is refused with the line it stands on.

Anchors, aliases and `<<` (merge) work: a route file repeats itself. Absent on purpose: several
documents in one text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "<<"
_NOT_TEXT = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float"))


class BadYaml(Exception):
    """The text cannot be taken. line: counted from 1."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(f"line {line}: {reason}")
        self.reason = reason
        self.line = line


@dataclass(frozen=True, slots=True)
class Bounds:
    """max_nodes: values in all, aliases written out. max_depth: levels of lists and mappings."""

    max_nodes: int = 200_000
    max_depth: int = 32


def _no_parts() -> dict[str | int, Node]:
    return {}


@dataclass(slots=True)
class Node:
    """A value and where it stands. parts: by key or index.

    nodes: how many values it stands for, aliases written out. depth: levels in it, 0 for a scalar.
    """

    value: object
    line: int
    nodes: int = 1
    depth: int = 0
    parts: dict[str | int, Node] = field(default_factory=_no_parts)

    def line_of(self, path: tuple[str | int, ...]) -> int:
        """The line of the deepest part of `path` that exists."""
        node = self
        for step in path:
            node = node.parts.get(step, node)
        return node.line


def read_yaml(text: str, bounds: Bounds | None = None) -> Node:
    """The one document of `text`. Raises BadYaml. Cost: O(text), no recursion."""
    builder = _Builder(bounds or Bounds())
    loader: Any = None
    try:
        loader = _Loader(text)
        for event in _events(loader):
            builder.take(event, loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadYaml("a character that a text cannot hold", line) from error
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        raise BadYaml(error.problem or "no YAML", mark.line + 1 if mark else 1) from error
    finally:
        if loader is not None:
            loader.dispose()
    return builder.document()


def _events(loader: Any) -> Iterator[Any]:
    while loader.check_event():
        yield loader.get_event()


@dataclass(slots=True)
class _Open:
    """A list or mapping that is being filled. key: the one whose value comes next."""

    node: Node
    anchor: str | None
    key: str | None = None
    key_line: int = 0
    merged: list[Node] = field(default_factory=list[Node])

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node.value, dict)


class _Builder:
    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._nodes = 0

    def document(self) -> Node:
        """The whole. Raises BadYaml for a text without a value."""
        if self._root is None:
            raise BadYaml("the document is empty", 1)
        return self._root

    def take(self, event: Any, loader: Any) -> None:
        """The next event of the parser."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            node = Node(_scalar(event, loader, line), line)
            self._remember(event.anchor, node)
            self._place(node, line, count=1)
        elif isinstance(event, yaml.AliasEvent):
            node = self._aliased(cast("str", event.anchor), line)
            self._place(node, line, count=node.nodes)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._begin(event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end()
        elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
            raise BadYaml("a second document begins here", line)

    def _begin(self, event: Any, line: int) -> None:
        if event.tag not in (None, "!"):
            raise BadYaml(f"tags are not understood here: {event.tag}", line)
        parent = self._stack[-1] if self._stack else None
        if parent is not None and parent.is_mapping and parent.key is None:
            raise BadYaml("a key is a text, not a list or a mapping", line)
        value: object = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._check_depth(1, line)
        self._stack.append(_Open(Node(value, line, depth=1), cast("str | None", event.anchor)))

    def _end(self) -> None:
        done = self._stack.pop()
        for other in done.merged:
            _merge(other, done.node)
        self._remember(done.anchor, done.node)
        self._place(done.node, done.node.line, count=1)

    def _place(self, node: Node, line: int, *, count: int) -> None:
        """Put a finished value where it belongs. count: the values that came with it (Y1)."""
        self._nodes += count
        if self._nodes > self._bounds.max_nodes:
            raise BadYaml(f"stands for more than {self._bounds.max_nodes} values", line)
        if not self._stack:
            self._root = node
            return
        self._check_depth(node.depth, line)
        parent = self._stack[-1]
        parent.node.nodes += node.nodes
        parent.node.depth = max(parent.node.depth, node.depth + 1)
        if not parent.is_mapping:
            values = cast("list[object]", parent.node.value)
            parent.node.parts[len(values)] = node
            values.append(node.value)
        elif parent.key is None:
            self._open_key(parent, node, line)
        elif parent.key == _MERGE and not isinstance(node.value, str):
            parent.merged += _mappings(node)
            parent.key = None
        else:
            _put(parent.node, parent.key, node, parent.key_line)
            parent.key = None

    def _open_key(self, parent: _Open, node: Node, line: int) -> None:
        if not isinstance(node.value, str):
            raise BadYaml(f"a key is a text; put quotes around {node.value!r}", line)
        if node.value in parent.node.parts:
            first = parent.node.parts[node.value].line
            raise BadYaml(f"{node.value!r} is given twice, first on line {first}", line)
        parent.key, parent.key_line = node.value, line

    def _check_depth(self, more: int, line: int) -> None:
        if len(self._stack) + more > self._bounds.max_depth:
            raise BadYaml(f"nested deeper than {self._bounds.max_depth} levels", line)

    def _aliased(self, anchor: str, line: int) -> Node:
        node = self._anchors.get(anchor)
        if node is None:
            raise BadYaml(f"*{anchor} stands inside of what it names, or for nothing", line)
        return node

    def _remember(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node


def _scalar(event: Any, loader: Any, line: int) -> object:
    if event.tag not in (None, "!"):
        raise BadYaml(f"tags are not understood here: {event.tag}", line)
    plain, _ = event.implicit
    if not plain:
        return event.value  # in quotes: a text, whatever it says
    tag: str = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    if tag not in _NOT_TEXT:
        return event.value  # a text; or a date, say: whoever reads the field decides
    try:
        return loader.construct_object(
            yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        )
    except ValueError as error:
        raise BadYaml(f"no number: {event.value[:40]!r}", line) from error


def _put(node: Node, key: str, part: Node, line: int) -> None:
    cast("dict[str, object]", node.value)[key] = part.value
    # The line of the key: with an alias, the value may stand far away.
    node.parts[key] = replace(part, line=line)


def _mappings(node: Node) -> list[Node]:
    """What `<<` names: a mapping, or a list of them."""
    named = list(node.parts.values()) if isinstance(node.value, list) else [node]
    for one in named:
        if not isinstance(one.value, dict):
            raise BadYaml("only a mapping can be merged", one.line)
    return named


def _merge(other: Node, into: Node) -> None:
    """What is written out goes before what is merged."""
    for key, part in cast("Mapping[str, Node]", other.parts).items():
        if key not in into.parts:
            _put(into, key, part, part.line)
