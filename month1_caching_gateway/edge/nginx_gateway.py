"""nginx as the gateway: the routes of a route file as an nginx configuration. Values in, text out.

Theory of operation
    A map from "METHOD path" to a route, its lines in the order in which our own route table would
    try them, gives the same route for every request, methods that fall through included. The
    request is then sent on inside nginx to that route's location, which asks the verifier
    (`auth_request`), counts (`limit_req`) and forwards.

What nginx cannot say is refused here (API keys, a canary, a cost other than 1, …), or is a stated
difference (differences.py), which the conformance suite holds it to. A route's cache and priority
are left out: without them answers are the same, only later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from month1_caching_gateway.edge.config import upstream
from month1_caching_gateway.edge.settings import ClientLimits, Servers
from month1_caching_gateway.edge.template import fill, plain, template
from month1_caching_gateway.gateway import Route, RouteTable, Rules
from month1_caching_gateway.ratelimit import TOKEN_BUCKET, Policy, Rule
from scalelab.errors import InvalidInput

_LITERAL = re.compile(r"[A-Za-z0-9._~-]+")
_WORD = re.compile(r"[A-Za-z0-9._:-]+")
_NAME = re.compile(r"[^\x00-\x1f\x7f\"\\$]+")
_PARAMETER = re.compile(r"\{[a-z_]+\}")
_PATH_CHARACTERS = (
    r"(?:[A-Za-z0-9\-._~!$&'()*+,=:@/]"
    r"|%(?!2[DdEeFf5]|5[CcFf]|3[0-9Bb]|7[EeFf]|[01]|4[1-9A-Fa-f]|5[0-9Aa]|6[1-9A-Fa-f]|7[0-9Aa])"
    r"[0-9A-Fa-f]{2})"
)
_QUERY_CHARACTERS = r"[\x21\x22\x24-\x7e]"
_REMOVED = (
    *("Forwarded", "Via", "Client-IP", "True-Client-IP", "X-Real-IP", "X-Client-IP"),
    *("X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-URL"),
    *("X-Original-URI", "X-Rewrite-URL", "tracestate", "X-User", "X-User-Id", "X-User-Roles"),
    *("X-Internal-Auth", "Proxy-Authorization", "Proxy-Connection", "Trailer", "Expect"),
)
_CODES = {
    400: "$code",
    401: "$code",
    403: "$code",
    404: "$code",
    405: "$code",
    413: "body_too_large",
    421: "$code",
    429: "rate_limited",
    502: "upstream_failed",
    503: "unavailable",
    504: "upstream_timeout",
}
_EXTRA = {
    405: "add_header Allow $allow always; ",
    429: "add_header Retry-After 1 always; ",
    503: "add_header Retry-After 1 always; ",
}


@dataclass(frozen=True, slots=True)
class NginxGateway:
    """rules: routes, upstreams, rates. verifier: `host:port` of a `create_verifier_app`."""

    rules: Rules
    hosts: tuple[str, ...]
    verifier: str
    limits: ClientLimits = field(default_factory=ClientLimits)


def gateway_config(settings: NginxGateway) -> str:
    """The configuration. Raises InvalidInput for rules that nginx cannot keep."""
    routes = sorted(settings.rules.routes, key=_specificity)
    for route in routes:
        _refuse_what_is_not_said(route)
    RouteTable(routes)  # two routes for one request are refused here as they are there
    limits = settings.limits
    buckets = {name: _bucket(name, rate) for name, rate in settings.rules.rates.items()}
    return fill(
        template("gateway.conf"),
        {
            "path_characters": _PATH_CHARACTERS,
            "query_characters": _QUERY_CHARACTERS,
            "routes": _lines(_route_line(n, route) for n, route in enumerate(routes)),
            "names": _lines(_name_line(n, route) for n, route in enumerate(routes)),
            "allow": _lines(_allow_lines(routes)),
            "rates": _lines(_zone(name, policy) for name, policy in buckets.items()),
            "upstreams": _upstreams(settings),
            "hosts": " ".join(plain(host, field="hosts") for host in settings.hosts),
            "removed": _lines(f'  proxy_set_header {name} "";' for name in _REMOVED),
            "locations": _lines(_location(n, route, buckets) for n, route in enumerate(routes)),
            "verifiers": _lines(sorted({_verifier(r) for r in routes if r.auth == "user"})),
            "problems": _lines(_problem(status) for status in _CODES if status != 421),
            "problem_421": _problem(421),
            "body_kb": str(limits.body_kb),
            "connections": str(limits.connections),
            "head_s": str(limits.head_s),
            "silence_s": str(limits.silence_s),
            "idle_s": str(limits.idle_s),
            "header_lines": str(limits.header_lines),
            "header_kb": str(limits.header_kb),
        },
    )


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)


def _segments(route: Route) -> list[str]:
    pattern = route.pattern if route.template is not None else route.pattern.rstrip("/")
    return pattern[1:].split("/") if pattern else []


def _specificity(route: Route) -> list[tuple[int, str]]:
    """Literal before parameter, more before less: the order of `RouteTable`."""
    key = [(1, "") if _PARAMETER.fullmatch(one) else (0, one) for one in _segments(route)]
    return [*key, (-1, "") if route.template is not None else (2, "")]


def path_pattern(route: Route) -> str:
    """The paths of a route as a regular expression. Raises InvalidInput for odd characters."""
    parts: list[str] = []
    for one in _segments(route):
        if _PARAMETER.fullmatch(one):
            parts.append("/[^/]+")
        elif one == "" or _LITERAL.fullmatch(one):
            parts.append("/" + one.replace(".", r"\."))
        else:
            raise InvalidInput(f"{one!r} cannot stand in nginx's routes", field="template")
    return "".join(parts) + ("" if route.template is not None else "(?:/.*)?")


def _methods(route: Route) -> list[str]:
    implied = {"HEAD"} if "GET" in route.methods else set[str]()
    return sorted(route.methods | implied)


def _route_line(number: int, route: Route) -> str:
    return f'  "~^(?:{"|".join(_methods(route))}) {path_pattern(route)}$" r{number};'


def _name_line(number: int, route: Route) -> str:
    if not _NAME.fullmatch(route.name):
        raise InvalidInput(f"{route.name!r} cannot stand in nginx's routes", field="name")
    return f'  r{number} "{route.name}";'


def _allow_lines(routes: Sequence[Route]) -> list[str]:
    """Path → methods; where patterns overlap crosswise, those of the more specific one."""
    allowed: dict[str, set[str]] = {}
    for route in routes:
        allowed.setdefault(path_pattern(route), set()).update(_methods(route))
    lines: list[str] = []
    for route in routes:
        pattern = path_pattern(route)
        if pattern not in allowed:
            continue
        names = allowed.pop(pattern)
        for other in routes:
            if _covers(other, route):
                names |= set(_methods(other))
        lines.append(f'  "~^{pattern}$" "{", ".join(sorted(names))}";')
    return lines


def _covers(wide: Route, narrow: Route) -> bool:
    """Whether every path of `narrow` is one of `wide`."""
    here, there = _segments(wide), _segments(narrow)
    if wide.template is not None and (narrow.template is None or len(here) != len(there)):
        return False
    return len(here) <= len(there) and all(
        _PARAMETER.fullmatch(one) or one == other for one, other in zip(here, there, strict=False)
    )


def _bucket(name: str, rate: object) -> Policy:
    """The token bucket behind a rate's name: what nginx can count. Raises InvalidInput."""
    if isinstance(rate, Rule) and rate.algorithm is TOKEN_BUCKET and not rate.plans:
        rate = rate.default
    if not isinstance(rate, Policy):
        raise InvalidInput(f"{name}: nginx counts with one kind of bucket only", field="rates")
    return rate


def _zone(name: str, policy: Policy) -> str:
    per_minute = policy.rate_per_s * 60
    if per_minute < 1:
        raise InvalidInput(f"{name}: nginx counts no less than one a minute", field="rate_per_s")
    whole = policy.rate_per_s == int(policy.rate_per_s)
    rate = f"{int(policy.rate_per_s)}r/s" if whole else f"{int(per_minute)}r/m"
    zone = plain(name, field="rates")
    return f"limit_req_zone $binary_remote_addr zone={zone}:1m rate={rate};"


def _upstreams(settings: NginxGateway) -> str:
    blocks = [upstream("verifier", Servers((settings.verifier,), max_fails=0))]
    for one in settings.rules.upstreams:
        addresses = tuple(at.authority.decode() for at in one.endpoints)
        servers = Servers(addresses, "round_robin")
        blocks.append(upstream(f"to_{plain(one.name, field='upstreams')}", servers))
    return "\n".join(blocks)


def _refuse_what_is_not_said(route: Route) -> None:
    """What would be lost without a word. Not keeping answers and no priorities only cost time."""
    asked = {
        "websocket": route.websocket,
        "canary": route.canary is not None,
        "cors": route.cors is not None,
        "hosts": bool(route.hosts),
    }
    for name, wanted in asked.items():
        if wanted:
            raise InvalidInput(f"{route.name}: nginx is not told of {name} here", field=name)
    if route.auth not in ("none", "user"):
        raise InvalidInput(f"{route.name}: the verifier knows no API keys", field="auth")


def _location(number: int, route: Route, rates: Mapping[str, Policy]) -> str:
    lines = [f"  location = /_route/r{number} {{", "    internal;"]
    if route.idempotency_key_required:
        lines.append("    if ($key_fault) { set $refusal $key_fault; return 400; }")
    if route.auth == "user":
        lines += [
            f"    auth_request {_verify_path(route)};",
            "    auth_request_set $refusal $upstream_http_x_refusal;",
            "    auth_request_set $subject $upstream_http_x_subject;",
        ]
    if route.rate is not None:
        if route.cost != 1:
            raise InvalidInput(f"{route.name}: nginx counts each request as one", field="cost")
        burst = int(rates[route.rate].capacity) - 1
        lines.append(
            f"    limit_req zone={route.rate}" + (f" burst={burst} nodelay;" if burst else ";")
        )
    if route.max_body_bytes is not None:
        lines.append(f"    client_max_body_size {route.max_body_bytes};")
    if route.streaming:
        lines.append("    proxy_buffering off;")
    lines += [
        f"    proxy_read_timeout {max(1, round(route.timeout_s * 1000))}ms;",
        f"    proxy_pass http://to_{route.upstream}$request_uri;",
        "  }",
    ]
    return "\n".join(lines)


def _verify_path(route: Route) -> str:
    if not route.scope:
        return "/_verify"
    if not _WORD.fullmatch(route.scope):
        raise InvalidInput(f"{route.scope!r} cannot stand in nginx's routes", field="scope")
    return f"/_verify/{route.scope}"


def _verifier(route: Route) -> str:
    """The location that asks about one scope; a variable would be reset in the subrequest."""
    return f"""  location = {_verify_path(route)} {{
    internal;
    proxy_pass http://verifier/verify;
    proxy_http_version 1.1;
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
    proxy_set_header Connection "";
    proxy_set_header X-Scope "{route.scope or ""}";
    proxy_connect_timeout 1s;
    proxy_read_timeout 3s;
  }}"""


def _problem(status: int) -> str:
    title = {421: "Misdirected Request"}.get(status) or HTTPStatus(status).phrase
    body = (
        f'{{"type":"about:blank","title":"{title}","status":{status},"code":"{_CODES[status]}",'
        '"request_id":"$request_id"}'
    )
    return (
        f"  location @p{status} {{ default_type application/problem+json; "
        "add_header Cache-Control no-store always; add_header X-Request-ID $request_id always; "
        "add_header X-Content-Type-Options nosniff always; "
        f"{_EXTRA.get(status, '')}return {status} '{body}'; }}"
    )
