"""What boto3 raises at SQS, in the house's errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import botocore.exceptions as boto
import urllib3.exceptions as http

from scalelab.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    ScalelabError,
    Unavailable,
)

RAISED = (boto.BotoCoreError, boto.ClientError, http.HTTPError, OSError)
"""What may be raised below a call."""

_NEVER_SENT = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError)
_EXISTS = frozenset({"QueueNameExists", "QueueAlreadyExists"})
_MISSING = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})
_NOBODY = frozenset({"AccessDenied", "AccessDeniedException", "InvalidClientTokenId"})
_TOO_MUCH = frozenset({"ThrottlingException", "RequestThrottled", "OverLimit"})


def code_of(error: Exception) -> str:
    """SQS's code in an answer, empty when none came. `AWS.…;Sender` is cut to its name."""
    if not isinstance(error, boto.ClientError):
        return ""
    answer = cast("Mapping[str, Any]", error.response)
    return str(answer.get("Error", {}).get("Code", "")).partition(";")[0]


def translate(error: Exception, *, writes: bool, what: str) -> ScalelabError:
    """The error of our tree. what: the operation and its queue."""
    said = " ".join(str(error).split())
    code = code_of(error)
    if code in _MISSING or code.endswith("NonExistentQueue"):
        return NotFound(f"{what}: there is no such queue", code="unroutable")
    if code in _EXISTS or code.endswith(("QueueNameExists", "QueueAlreadyExists")):
        return Conflict(f"{what}: it exists with other numbers", code="topic_differs")
    if code in _NOBODY:
        return Forbidden(f"{what}: {said}")
    if code in _TOO_MUCH:
        return Overloaded(f"{what}: {said}", code="sqs_throttled")
    if isinstance(error, boto.ParamValidationError):
        return InvalidInput(f"{what}: {said}")
    if isinstance(error, boto.ClientError) and _status(error) < 500:
        return ScalelabError(f"{what}: {said}", code="sqs_error")
    if isinstance(error, _NEVER_SENT) or not writes:
        return Unavailable(f"{what}: {said}", code="sqs_unavailable")
    return OutcomeUnknown(f"{what}: no answer: {said}")


def _status(error: boto.ClientError) -> int:
    answer = cast("Mapping[str, Any]", error.response)
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
