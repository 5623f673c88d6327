"""S3's errors in the words of the one error tree.

An answer with an error code means that nothing was changed, except for the server's own failures
(5xx) and for answers that never came: a write may then have taken effect, so it is OutcomeUnknown;
a read cannot have changed anything, so it is Unavailable.
Source: Amazon S3 API reference, "Error responses"; codes with an X are versitygw's own.
"""

from __future__ import annotations

import botocore.exceptions as boto
import urllib3.exceptions as http

from scalelab.errors import (
    Conflict,
    CorruptData,
    Forbidden,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    ScalelabError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

_MISSING = {
    "NoSuchBucket": "no_such_bucket",
    "NoSuchKey": "no_such_object",
    "NoSuchUpload": "no_such_upload",
}
_NOBODY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound"})
_CONFLICTS = {
    "PreconditionFailed": "object_changed",
    "ConditionalRequestConflict": "object_changed",
    "InvalidPart": "part_missing",
    "InvalidPartOrder": "part_missing",
    "BucketAlreadyExists": "bucket_exists",
    "BucketNotEmpty": "bucket_not_empty",
}
_TOO_MUCH = frozenset({"SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded"})
_FULL = frozenset({"QuotaExceeded", "XQuotaExceeded", "InsufficientStorage"})
_DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
_NEVER_SENT = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError)
TRANSPORT = (boto.BotoCoreError, http.HTTPError, OSError)
"""What may be raised below an S3 call beside an answer with an error code."""


def translate(error: Exception, *, writes: bool, what: str) -> ScalelabError:
    """The error of our tree for one that boto raised. what: the operation and its object."""
    if isinstance(error, boto.ClientError):
        return _of_answer(error, writes=writes, what=what)
    said = " ".join(str(error).split())
    if isinstance(error, boto.FlexibleChecksumError):
        return CorruptData(f"{what}: the bytes differ from their checksum", code="object_corrupt")
    if isinstance(error, boto.ParamValidationError):
        return InvalidInput(f"{what}: {said}", code="invalid_object_request")
    if isinstance(error, _NEVER_SENT) or not writes:
        return Unavailable(f"{what}: the object store cannot be asked: {said}", code="s3_lost")
    return OutcomeUnknown(f"{what}: no answer of the object store: {said}")


def code_of(error: boto.ClientError) -> str:
    """The server's own code; of a HEAD only the HTTP status, as its answer has no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _of_answer(error: boto.ClientError, *, writes: bool, what: str) -> ScalelabError:
    code = code_of(error)
    told = str(error.response.get("Error", {}).get("Message", "")) or code
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"{what}: {told}"
    if code in _MISSING:
        return NotFound(said, code=_MISSING[code])
    if code in _NOBODY:
        return Unauthenticated(f"{what}: the keys are not accepted", code="s3_keys_refused")
    if code in _CONFLICTS:
        return Conflict(said, code=_CONFLICTS[code])
    if code in _DAMAGED:
        return CorruptData(said, code="object_corrupt")
    if code in _TOO_MUCH:
        return Overloaded(said, code="s3_overloaded")
    if code in _FULL or status == 507:
        return Unavailable(said, code="s3_full")
    return _of_status(status, code, said, writes=writes)


def _of_status(status: int, code: str, said: str, *, writes: bool) -> ScalelabError:
    if status >= 500 and status != 501:
        return OutcomeUnknown(said) if writes else Unavailable(said, code="s3_failed")
    if status == 413 or code == "EntityTooLarge":
        return TooLarge(said, code="object_too_large")
    if status in (401, 403):
        return Forbidden(said, code="s3_forbidden")
    if status == 404:
        return NotFound(said, code="no_such_object")
    return InvalidInput(said, code="invalid_object_request")
