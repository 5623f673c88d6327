"""Route files: what each mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from month1_caching_gateway.gateway.config_file import MAX_FILE_BYTES, BadFile, load_file, rules_of

GOOD = """\
anchors:
  browse: &browse {auth: none, rate: anonymous}
upstreams:
  catalog:
    endpoints: [{host: 127.0.0.1, port: 8101}]
rates:
  anonymous: {capacity: 20, rate_per_s: 10}
routes:
  - {template: /products, upstream: catalog, <<: *browse}
  - prefix: /assets
    upstream: catalog
    auth: none
"""


def refusal(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(BadFile) as caught:
        rules_of(raw, "routes.yaml")
    return str(caught.value)


def test_a_right_file_becomes_rules_with_a_revision() -> None:
    """The revision depends on the bytes alone."""
    rules = rules_of(GOOD.encode(), "routes.yaml")
    assert [route.name for route in rules.routes] == ["/products", "/assets/*"]
    assert rules.routes[0].rate == "anonymous"
    assert rules.revision == rules_of(GOOD.encode(), "other").revision
    assert rules.revision != rules_of(GOOD.encode() + b"#\n", "routes.yaml").revision


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("template: /products, upstream: catalog", "template: /products, upstream: catalogue",
         "routes.yaml:9: routes.0.upstream: there is no upstream 'catalogue'"),
        ("rate: anonymous}", "rate: nobody}",
         "routes.yaml:2: routes.0.rate: there is no rate policy 'nobody'"),
        ("prefix: /assets", "template: /products",
         "routes.yaml:10: routes.1: two routes for '/products' take the same method"),
        ("rate_per_s: 10", "rate_per_s: -10",
         "routes.yaml:7: rates.anonymous.rate_per_s: input should be greater than 0"),
        ("rate_per_s: 10", "rate_per_s: .inf",
         "routes.yaml:7: rates.anonymous.rate_per_s: input should be a finite number"),
        ("template: /products,", "template: /products, cost: 21,",
         "routes.yaml:9: routes.0.cost: costs 21, but 'anonymous' never holds more than 20"),
        ("template: /products", "template: products",
         "routes.yaml:9: routes.0.template: 'products' is no absolute path"),
        ("    auth: none", "    auht: none",
         "routes.yaml:12: routes.1.auht: there is no such key"),
        ("    upstream: catalog\n", "", "routes.yaml:10: routes.1.upstream: is missing"),
        ("port: 8101", "port: 81010",
         "routes.yaml:5: upstreams.catalog.endpoints.0.port: input should be less than"),
        ("    auth: none", "\tauth: none",
         "routes.yaml:12: found a tab character that violates indentation"),
        ("    auth: none", "    prefix: /else",
         "routes.yaml:12: 'prefix' is given twice, first on line 10"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_file_line_and_reason(old: str, new: str, said: str) -> None:
    """Each a slip of one word in a right file."""
    assert old in GOOD
    assert said in refusal(GOOD.replace(old, new))


def test_every_mistake_is_named_at_once() -> None:
    """In the order of the lines."""
    text = GOOD.replace("prefix: /assets", "prefix: assets").replace("port: 8101", "port: x")
    assert [line.split(":")[1] for line in refusal(text).splitlines()] == ["5"]
    text = GOOD.replace("prefix: /assets", "prefix: assets").replace(
        "s, upstream: catalog", "s, upstream: x"
    )
    assert [line.split(":")[1] for line in refusal(text).splitlines()] == ["9", "10"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"routes: []\nx: \xff\n", "routes.yaml:2: is not UTF-8"),
        (b"- a list\n", "routes.yaml:1: is no mapping"),
        (b"", "routes.yaml:1: the document is empty"),
    ],
)
def test_what_is_no_route_file_at_all_is_refused(raw: bytes, said: str) -> None:
    """Before any field is looked at."""
    assert refusal(raw) == said


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    """The size is looked at before the content."""
    with pytest.raises(BadFile, match=r"^routes\.yaml: cannot be read: No such file"):
        load_file(tmp_path / "routes.yaml")
    large = tmp_path / "large.yaml"
    large.write_bytes(GOOD.encode() + b"#" * MAX_FILE_BYTES)
    with pytest.raises(BadFile, match=r"^large\.yaml: is larger than 1048576 bytes"):
        load_file(large)
