"""Refusals: what the gateway answers by itself, as RFC 9457 problem documents.

`Refused` is raised by the pure parts and turned into bytes in one place. The text of a problem
never holds a stack trace, an internal address or what the caller sent.
"""

from __future__ import annotations

from http import HTTPStatus

from scalelab.errors import ScalelabError
from scalelab.web.problem import Problem, from_error, instance_of

Header = tuple[bytes, bytes]


class Refused(Exception):
    """The request goes no further. close: what follows on this connection cannot be trusted."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: tuple[Header, ...] = (),
        retry_after_s: float | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.close = close
        self.headers = headers
        if retry_after_s is not None:
            self.headers = (*headers, (b"Retry-After", b"%d" % whole_seconds(retry_after_s)))


def whole_seconds(seconds: float) -> int:
    """Rounded up, at least 1: a client that waits this long does not come too early."""
    return max(1, -int(-seconds // 1))


def problem_body(refused: Refused, *, instance: str, request_id: str) -> bytes:
    """The JSON document of a refusal. instance: the path as sent, never the query."""
    problem = Problem(refused.status, refused.code, refused.detail)
    return problem.body(instance=instance_of(instance.encode()), request_id=request_id)


def refused_by(error: ScalelabError) -> Refused:
    """An error of ours as a refusal; status, headers and public text are decided in one place."""
    problem = from_error(error)
    headers = tuple((name.encode(), value.encode()) for name, value in problem.headers.items())
    return Refused(problem.status, problem.code, problem.detail, headers=headers)


def reason(status: int) -> str:
    """The registered phrase of a status, or an empty one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
