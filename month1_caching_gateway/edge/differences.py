"""What nginx does otherwise when it runs our gateway's routes, and why.

A table for readers, and a contract: the conformance suite has one check for each entry, which holds
ours to one behaviour and nginx to the other. What is not listed here, both do alike.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """name: of the check. ours, nginx: what each does, in one line. because: why it stays."""

    name: str
    ours: str
    nginx: str
    because: str


DIFFERENCES = (
    Difference(
        "count_per_user",
        "counts a verified caller by user, from wherever they come",
        "counts by address",
        "limit_req runs before auth_request, so nobody is known yet",
    ),
    Difference(
        "allowance_headers",
        "RateLimit-Limit, -Remaining and -Reset on every answer; Retry-After says when",
        "no RateLimit headers; Retry-After: 1 on 429",
        "limit_req keeps its count to itself",
    ),
    Difference(
        "key_before_identity",
        "a stranger without Idempotency-Key is told 401",
        "the same stranger is told 400",
        "`if` runs before auth_request",
    ),
    Difference(
        "escaped_letters",
        "/%6fpen/1 is /open/1, and is forwarded so",
        "400",
        "proxy_pass sends either the decoded path, escapes lost, or the one as sent",
    ),
    Difference(
        "escapes_that_are_no_text",
        "/open/%ff is refused: the escapes are not UTF-8",
        "forwarded as sent",
        "a map cannot decode",
    ),
    Difference(
        "named_in_connection",
        "a header that Connection names belongs to the hop and is removed",
        "forwarded",
        "proxy_set_header takes names from the configuration only",
    ),
    Difference(
        "claims_by_prefix",
        "every X-User…, X-Internal-… and X-Forwarded-… of a client is removed",
        "those that are listed by name are",
        "there is no wildcard for request headers",
    ),
    Difference(
        "internal_answer_headers",
        "X-Internal-… of a service does not reach the client",
        "it does, unless listed",
        "proxy_hide_header has no wildcard either",
    ),
    Difference(
        "server_header",
        "no Server header",
        "Server: nginx",
        "removing it needs a module that Debian's package leaves out",
    ),
    Difference(
        "absolute_form",
        "400: a gateway is no forward proxy",
        "the path is taken out and forwarded",
        "nginx accepts it as HTTP/1.1 asks of servers",
    ),
)
